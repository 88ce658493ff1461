import { resolve } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { Column } from './columns.ts';
import { DEFAULT_IMAGE_ID, type ImageRef, type ProductFields, type ProductImage } from './product-image.ts';

/** The values of one feed line by column. CSV gives strings; JSON may give numbers, lists and objects. */
export type FeedRecord = { readonly [Name in Column]?: unknown };

/** The sentence for a line that can't be taken. */
export class FeedRecordError extends Error {}

/**
 * The product image of a feed line. Relative image paths are taken from `folder`.
 * @throws FeedRecordError
 */
export function toProductImage(record: FeedRecord, folder: string): ProductImage {
  const productId = toText(record.product_id, 'product_id');
  if (productId === undefined) throw new FeedRecordError('it has no product_id.');
  return {
    productId,
    imageId: toText(record.image_id, 'image_id') ?? DEFAULT_IMAGE_ID,
    image: toImageRef(record, folder),
    product: toProductFields(record),
  };
}

function toImageRef(record: FeedRecord, folder: string): ImageRef {
  const url = toText(record.image_url, 'image_url');
  const path = toText(record.image_path, 'image_path');
  const either = toText(record.image, 'image');
  const given = [url, path, either].filter((value) => value !== undefined);
  if (given.length === 0) throw new FeedRecordError('it has neither image_path nor image_url.');
  // A feed that names both means the same picture: the file is nearer than the network.
  const chosen = path ?? either ?? url ?? '';
  if (/^https?:\/\//i.test(chosen)) return { kind: 'url', url: chosen };
  if (path === undefined && either === undefined)
    throw new FeedRecordError(`image_url must begin with http:// or https://.`);
  if (/^file:\/\//i.test(chosen)) return { kind: 'path', path: fileURLToPath(chosen) };
  return { kind: 'path', path: resolve(folder, chosen) };
}

function toProductFields(record: FeedRecord): ProductFields {
  const { amount, currency: currencyOfPrice } = toPrice(record.price);
  const fields = {
    name: toText(record.name, 'name'),
    description: toText(record.description, 'description'),
    category: toText(record.category, 'category'),
    brand: toText(record.brand, 'brand'),
    price: amount,
    currency: toText(record.currency, 'currency')?.toUpperCase() ?? currencyOfPrice,
    tags: toTags(record.tags),
    metadata: toMetadata(record.metadata),
  };
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined));
}

function toText(value: unknown, column: Column): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'string' && typeof value !== 'number')
    throw new FeedRecordError(`${column} must be text.`);
  const text = String(value).trim();
  return text === '' ? undefined : text;
}

/** `19.9`, `19,90`, `1.299,00`, `EUR 19.90` and `19.90 EUR`. */
function toPrice(value: unknown): { readonly amount?: number; readonly currency?: string } {
  if (typeof value === 'number' && Number.isFinite(value) && value >= 0) return { amount: value };
  const text = toText(value, 'price');
  if (text === undefined) return {};
  const match = /^([A-Za-z]{3})?\s*([\d.,' ]*\d)\s*([A-Za-z]{3})?$/.exec(text);
  const amount = match?.[2] === undefined ? Number.NaN : toAmount(match[2]);
  if (!Number.isFinite(amount)) throw new FeedRecordError('price must be a number such as 19.90.');
  const currency = match?.[1] ?? match?.[3];
  return currency === undefined ? { amount } : { amount, currency: currency.toUpperCase() };
}

/** The last separator with one or two digits after it marks the decimals; the others group thousands. */
function toAmount(digits: string): number {
  const decimals = /[.,](\d{1,2})$/.exec(digits);
  const whole = (decimals === null ? digits : digits.slice(0, decimals.index)).replaceAll(/[.,' ]/g, '');
  if (decimals !== null) return Number(`${whole || '0'}.${decimals[1]}`);
  return /^\d+[.]\d{4,}$/.test(digits) ? Number(digits) : Number(whole);
}

/** A JSON list, or text with `;`, `|` or, where there is neither, `,` between the tags. */
function toTags(value: unknown): readonly string[] | undefined {
  if (value === undefined || value === null) return undefined;
  if (Array.isArray(value)) return value.map((tag) => toText(tag, 'tags')).filter((tag) => tag !== undefined);
  const text = toText(value, 'tags');
  const separator = text !== undefined && /[;|]/.test(text) ? /[;|]/ : ',';
  return text
    ?.split(separator)
    .map((tag) => tag.trim())
    .filter((tag) => tag !== '');
}

function toMetadata(value: unknown): Readonly<Record<string, unknown>> | undefined {
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
