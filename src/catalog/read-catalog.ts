import { stat } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import { VitrineError } from '../errors/vitrine-error.ts';
import { readCsvFeed } from './csv-feed.ts';
import { type FeedEntry, isFault, toFeedKind } from './feed.ts';
import { isImageName, readFolderFeed, toFolderImage } from './folder-feed.ts';
import { readJsonlFeed } from './jsonl-feed.ts';
import { toPointId } from './product-image.ts';

/** Something that can be indexed. */
export interface Catalog {
  /** Absolute; relative image paths begin here. */
  readonly folder: string;
  /** Reads it from its start on each call. A line that can't be taken is an entry with a fault. */
  entries(): AsyncGenerator<FeedEntry>;
}

/**
 * The catalog at the path: a CSV or JSONL file, a folder of images, or one image.
 * @throws VitrineError `invalid_request` when there is nothing, or something else.
 */
export async function openCatalog(path: string): Promise<Catalog> {
  const absolute = resolve(path);
  const found = await stat(absolute).catch(() => null);
  if (found === null) {
    throw new VitrineError('invalid_request', `There is nothing at ${path}.`, {
      suggestion: 'Check the path; a relative one begins in the present folder.',
    });
  }
  if (found.isDirectory()) return withoutRepeats(absolute, () => readFolderFeed(absolute));
  const folder = dirname(absolute);
  const kind = toFeedKind(absolute);
  if (kind === 'csv') return withoutRepeats(folder, () => readCsvFeed(absolute, folder));
  if (kind === 'jsonl') return withoutRepeats(folder, () => readJsonlFeed(absolute, folder));
  if (isImageName(absolute)) return withoutRepeats(folder, () => readOneImage(absolute));
  throw new VitrineError('invalid_request', `${path} is neither a catalog nor an image.`, {
    suggestion: 'Give a .csv, .tsv or .jsonl file, a folder of images, or one image.',
  });
}

async function* readOneImage(path: string): AsyncGenerator<FeedEntry> {
  yield toFolderImage(basename(path), path);
}

/** Two entries of one product image would overwrite each other in silence: the later one becomes a fault. */
function withoutRepeats(folder: string, read: () => AsyncGenerator<FeedEntry>): Catalog {
  return {
    folder,
    async *entries() {
      const seen = new Map<string, string>();
      for await (const entry of read()) {
        if (isFault(entry)) {
          yield entry;
          continue;
        }
        const { productId, imageId } = entry.image;
        const key = toPointId(productId, imageId);
        const first = seen.get(key);
        if (first === undefined) {
          seen.set(key, entry.where);
          yield entry;
        } else {
          const fault = `product ${productId} has an image ${imageId} already (${first}); give each picture its own image_id.`;
          yield { where: entry.where, fault };
        }
      }
    },
  };
}
