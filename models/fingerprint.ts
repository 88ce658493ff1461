import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import type { ModelDefinition } from './definition.ts';
import { PREPROCESSING_VERSION } from './preprocessing.ts';

/**
 * Hex SHA-256 of all that an image's vector depends on.
 *
 * @param weights which weights they are: their own SHA-256 where it is known, so that the same file from another
 *   mirror counts as the same; else the hub's name and revision. Reading a local file of 350 MB for it takes about
 *   a second, once a start, a fraction of what loading it takes.
 */
export function toFingerprint(model: Omit<ModelDefinition, 'fingerprint'>, weights: string): string {
  const { id, dtype, dimension, preprocessing, vision } = model;
  const parts = [id, dtype, dimension, toSortedEntries(preprocessing), toSortedEntries(vision), weights];
  return createHash('sha256')
    .update(JSON.stringify([PREPROCESSING_VERSION, ...parts]))
    .digest('hex');
}

/** Hex SHA-256 of a file. */
export async function hashFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash);
  return hash.digest('hex');
}

function toSortedEntries(value: object): readonly (readonly [string, unknown])[] {
  return Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
}
