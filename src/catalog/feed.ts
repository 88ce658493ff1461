import { extname } from 'node:path';
import type { ProductImage } from './product-image.ts';

/** One entry of a catalog: a product image, or what is wrong with the line. */
export type FeedEntry = FeedImage | FeedFault;

export interface FeedImage {
  /** Where it stands, for people: `line 12` of a file, or the path of a picture in a folder. */
  readonly where: string;
  readonly image: ProductImage;
}

export interface FeedFault {
  readonly where: string;
  /** A plain sentence. */
  readonly fault: string;
}

export type FeedKind = 'csv' | 'jsonl';

const KINDS: Readonly<Record<string, FeedKind>> = {
  '.csv': 'csv',
  '.tsv': 'csv',
  '.txt': 'csv',
  '.jsonl': 'jsonl',
  '.ndjson': 'jsonl',
};

/** The kind of feed by the file's name; null for any other file. */
export function toFeedKind(path: string): FeedKind | null {
  return KINDS[extname(path).toLowerCase()] ?? null;
}

export function isFault(entry: FeedEntry): entry is FeedFault {
  return 'fault' in entry;
}
