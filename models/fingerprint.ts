import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { ModelDefinition } from './definition.ts';
import { toOnnxPath } from './folder.ts';
import { PREPROCESSING_VERSION } from './preprocessing.ts';

/**
 * Hex SHA-256 of all that an image's vector depends on. The weights count by their content, not by their name or
 * revision: the same file from another mirror gives the same vectors, another file of the same name doesn't.
 * Reading them takes about a second for 350 MB, once a start, which loading them costs several times over.
 */
export async function toFingerprint(model: Omit<ModelDefinition, 'fingerprint'>): Promise<string> {
  const { id, dtype, dimension, preprocessing, vision } = model;
  const weights = await hashFile(join(model.folder, toOnnxPath(vision, dtype)));
  const parts = [
    PREPROCESSING_VERSION,
    id,
    dtype,
    dimension,
    toSortedEntries(preprocessing),
    toSortedEntries(vision),
  ];
  return createHash('sha256')
    .update(JSON.stringify([...parts, weights]))
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
