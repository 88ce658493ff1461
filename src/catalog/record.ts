import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Column } from './columns.ts';
import { isDataUrl, toBase64OfDataUrl } from './data-url.ts';
import type { FeedEntry } from './feed.ts';
import { type DecimalMark, type Price, toPrice } from './price.ts';
import { DEFAULT_IMAGE_ID, type ImageRef, type ProductFields, type ProductImage } from './product-image.ts';

/** The values of one feed line by column. In CSV all are strings; in JSON they may be numbers, lists and objects. */
export type FeedRecord = { readonly [Name in Column]?: unknown };

/** One line of a feed whose columns are known. */
export interface FeedLine {
  /** For people: `line 12`. */
  readonly where: string;
  readonly record: FeedRecord;
}

/** The sentence for a line that can't be taken. */
class FeedRecordError extends Error {}

export interface RecordContext {
  /** Relative image paths start here. */
  readonly folder: string;
  /** How prices are read that could be read in two ways. */
  readonly decimal: DecimalMark;
}

/** The entry of a line: its product image, or the fault that keeps it out. */
export function toFeedEntry({ where, record }: FeedLine, context: RecordContext): FeedEntry {
  try {
    return { where, image: parseProductImage(record, context) };
  } catch (error) {
    if (error instanceof FeedRecordError) return { where, fault: error.message };
    throw error;
  }
}

/** @throws FeedRecordError */
function parseProductImage(record: FeedRecord, { folder, decimal }: RecordContext): ProductImage {
  const productId = parseText(record.product_id, 'product_id');
  if (productId === undefined) throw new FeedRecordError('it has no product_id.');
  return {
    productId,
    imageId: parseText(record.image_id, 'image_id') ?? DEFAULT_IMAGE_ID,
    image: parseImageRef(record, folder),
    product: parseProductFields(record, decimal),
  };
}

function parseImageRef(record: FeedRecord, folder: string): ImageRef {
  const url = parseText(record.image_url, 'image_url');
  const path = parseText(record.image_path, 'image_path');
  const either = parseText(record.image, 'image');
  const given = [url, path, either].filter((value) => value !== undefined);
  if (given.length === 0) throw new FeedRecordError('it has neither image_path nor image_url.');
  // A feed that names both means the same picture: the file is faster to read.
  const chosen = path ?? either ?? url ?? '';
  if (/^https?:\/\//i.test(chosen)) return { kind: 'url', url: chosen };
  if (isDataUrl(chosen)) return parseDataUrl(chosen);
  if (path === undefined && either === undefined)
    throw new FeedRecordError('image_url must begin with http://, https:// or data:.');
  if (/^file:\/\//i.test(chosen)) return { kind: 'path', path: parseFileUrl(chosen) };
  return { kind: 'path', path: resolve(folder, chosen) };
}

function parseDataUrl(url: string): ImageRef {
  const base64 = toBase64OfDataUrl(url);
  if (base64 === null) throw new FeedRecordError('a data: URL must be in base64.');
  return { kind: 'inline', base64 };
}

function parseFileUrl(url: string): string {
  try {
    return fileURLToPath(url);
  } catch {
    // It names another host, or isn't a URL.
    throw new FeedRecordError('image_path must be a path or a file:/// URL of this machine.');
  }
}

function parseProductFields(record: FeedRecord, decimal: DecimalMark): ProductFields {
  const { amount, currency: currencyOfPrice } = parsePrice(record.price, decimal);
  const fields = {
    name: parseText(record.name, 'name'),
    description: parseText(record.description, 'description'),
    category: parseText(record.category, 'category'),
    brand: parseText(record.brand, 'brand'),
    price: amount,
    currency: parseText(record.currency, 'currency')?.toUpperCase() ?? currencyOfPrice,
    tags: parseTags(record.tags),
    metadata: parseMetadata(record.metadata),
  };
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

function parseText(value: unknown, column: Column): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'string' && typeof value !== 'number')
    throw new FeedRecordError(`${column} must be text.`);
  const text = String(value).trim();
  return text === '' ? undefined : text;
}

function parsePrice(value: unknown, decimal: DecimalMark): Partial<Price> {
  if (typeof value === 'number' && Number.isFinite(value) && value >= 0) return { amount: value };
  const text = parseText(value, 'price');
  if (text === undefined) return {};
  const price = toPrice(text, decimal);
  if (price === null) throw new FeedRecordError('price must be a number such as 19.90.');
  return price;
}

/** A JSON list, or text with `;`, `|` or, where there is neither, `,` between the tags. */
function parseTags(value: unknown): readonly string[] | undefined {
  if (value === undefined || value === null) return undefined;
  if (Array.isArray(value))
    return value.map((tag) => parseText(tag, 'tags')).filter((tag) => tag !== undefined);
  const text = parseText(value, 'tags');
  const separator = text !== undefined && /[;|]/.test(text) ? /[;|]/ : ',';
  return text
    ?.split(separator)
    .map((tag) => tag.trim())
    .filter((tag) => tag !== '');
}

function parseMetadata(value: unknown): Readonly<Record<string, unknown>> | undefined {
  if (value === undefined || value === null || value === '') return undefined;
  const parsed = typeof value === 'string' ? parseJson(value) : value;
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed))
    throw new FeedRecordError('metadata must be a JSON object.');
  return { ...parsed };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
