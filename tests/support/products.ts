import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './program.ts';

const shared = join(root, '..', 'shared');

/** Real product photos and pretrained models lie beside the repository on some machines; null elsewhere. */
export const realProducts = toExisting(join(shared, 'data', 'products'));
export const realModels = toExisting(join(shared, 'models'));

function toExisting(path: string): string | null {
  return existsSync(path) ? path : null;
}
