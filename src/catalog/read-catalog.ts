import { stat } from 'node:fs/promises';
import { basename, dirname, resolve } from 'node:path';
import { VitrineError } from '../errors/vitrine-error.ts';
import { readCsvFeed } from './csv-feed.ts';
import { type FeedEntry, type FeedFault, isFault, toFeedKind } from './feed.ts';
import { isImageName, readFolderFeed, toFolderImage } from './folder-feed.ts';
import { readJsonlFeed } from './jsonl-feed.ts';
import { type DecimalMark, toDecimalMark } from './price.ts';
import { toPointId } from './product-image.ts';
import { type FeedLine, toFeedEntry } from './record.ts';

/** Something that can be indexed. */
export interface Catalog {
  /** Absolute; relative image paths start here. */
  readonly folder: string;
  /** Reads it from its start on each call. A line that can't be taken is an entry with a fault. */
  entries(): AsyncGenerator<FeedEntry>;
}

export interface CatalogOptions {
  /**
   * The decimal mark of prices that can be read in two ways, such as `1,234`. Undefined: the one that most other prices
   * of the catalog show; a point when they show none.
   */
  readonly decimal?: DecimalMark | undefined;
}

/**
 * The catalog at the path: a CSV or JSONL file, a folder of images, or one image.
 * @throws VitrineError `invalid_request` when there is nothing, or something else.
 */
export async function openCatalog(path: string, { decimal }: CatalogOptions = {}): Promise<Catalog> {
  const absolute = resolve(path);
  const found = await stat(absolute).catch(() => null);
  if (found === null) {
    throw new VitrineError('invalid_request', `There is nothing at ${path}.`, {
      suggestion: 'Check the path; a relative one starts from the current folder.',
    });
  }
  if (found.isDirectory()) return withoutRepeats(absolute, () => readFolderFeed(absolute));
  const folder = dirname(absolute);
  const kind = toFeedKind(absolute);
  if (kind !== null) {
    const read = () => (kind === 'csv' ? readCsvFeed(absolute) : readJsonlFeed(absolute));
    return withoutRepeats(folder, () => readFeed(read, folder, decimal));
  }
  if (isImageName(absolute)) return withoutRepeats(folder, () => readOneImage(absolute));
  throw new VitrineError('invalid_request', `${path} is neither a catalog nor an image.`, {
    suggestion: 'Use a .csv, .tsv or .jsonl file, a folder of images, or one image.',
  });
}

async function* readFeed(
  read: () => AsyncGenerator<FeedLine | FeedFault>,
  folder: string,
  decimal: DecimalMark | undefined,
): AsyncGenerator<FeedEntry> {
  const context = { folder, decimal: decimal ?? (await detectDecimalMark(read())) };
  for await (const line of read()) yield 'record' in line ? toFeedEntry(line, context) : line;
}

/** The decimal mark that most prices show. */
async function detectDecimalMark(lines: AsyncGenerator<FeedLine | FeedFault>): Promise<DecimalMark> {
  const shown = { point: 0, comma: 0 };
  for await (const line of lines) {
    const price = 'record' in line ? line.record.price : undefined;
    const mark = typeof price === 'string' ? toDecimalMark(price.trim()) : null;
    if (mark !== null) shown[mark] += 1;
  }
  return shown.comma > shown.point ? 'comma' : 'point';
}

async function* readOneImage(path: string): AsyncGenerator<FeedEntry> {
  yield toFolderImage(basename(path), path);
}

/** Two entries of one product image would overwrite each other silently: the later one becomes a fault. */
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
          const fault = `product ${productId} has an image ${imageId} already (${first}); each picture needs its own image_id.`;
          yield { where: entry.where, fault };
        }
      }
    },
  };
}
