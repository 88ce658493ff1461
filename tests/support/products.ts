import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { root } from './program.ts';

const folder = join(root, '..', 'shared', 'data', 'products');

/** Real product photos lie next to the repository on some machines; null elsewhere. */
export const realProducts = existsSync(folder) ? folder : null;
