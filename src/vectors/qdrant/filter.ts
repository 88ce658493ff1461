import type { Schemas } from '@qdrant/js-client-rest';
import { VitrineError } from '../../errors/vitrine-error.ts';
import { KEYWORD_FIELDS, type NumberRange, type SearchFilter } from '../search-filter.ts';

type Condition = Schemas['Condition'];
type Scalar = string | number | boolean;

const WIRE_NAMES = { productId: 'product_id', imageId: 'image_id' } as const;

export const IS_TOMBSTONE: Condition = { key: 'deleted', match: { value: true } };

export function isOfProduct(productId: string): Condition {
  return { key: 'product_id', match: { value: productId } };
}

/**
 * The search filter as conditions that must hold.
 * @throws VitrineError `invalid_request` for a metadata key that Qdrant's JSON paths can't name
 */
export function toConditions(filter: SearchFilter): Condition[] {
  const keywords = KEYWORD_FIELDS.flatMap((field) => {
    const wanted = filter[field];
    if (wanted === undefined) return [];
    return [
      anyOf(field in WIRE_NAMES ? WIRE_NAMES[field as keyof typeof WIRE_NAMES] : field, [wanted].flat()),
    ];
  });
  const price = filter.price === undefined ? [] : inRange('price', filter.price);
  const metadata = Object.entries(filter.metadata ?? {}).flatMap(([name, wanted]) => {
    const key = toMetadataKey(name);
    return isRange(wanted) ? inRange(key, wanted) : [anyOf(key, [wanted].flat())];
  });
  return [...keywords, ...price, ...metadata];
}

function isRange(wanted: unknown): wanted is NumberRange {
  return typeof wanted === 'object' && wanted !== null && !Array.isArray(wanted);
}

/** Quoted, so that a dot or a bracket in the key is no path; Qdrant has no escape for a quote. */
function toMetadataKey(name: string): string {
  if (name.includes('"')) {
    throw new VitrineError('invalid_request', "Qdrant can't filter by a metadata key that contains a quote.");
  }
  return `metadata."${name}"`;
}

/** Numbers are compared by a range: `match` knows only integers, and takes 1.0 and 1 for two values. */
function anyOf(key: string, wanted: readonly Scalar[]): Condition {
  const strings = wanted.filter((value) => typeof value === 'string');
  const others = wanted.filter((value) => typeof value !== 'string');
  const conditions: Condition[] = others.map((value) =>
    typeof value === 'boolean' ? { key, match: { value } } : { key, range: { gte: value, lte: value } },
  );
  // For an empty list: no point matches `any` of no strings, but every point matches an empty `should`.
  if (strings.length > 0 || wanted.length === 0) conditions.push({ key, match: { any: strings } });
  return conditions.length === 1 && conditions[0] !== undefined ? conditions[0] : { should: conditions };
}

/** A range without a bound is no condition. */
function inRange(key: string, { gt, gte, lt, lte }: NumberRange): Condition[] {
  const range = Object.fromEntries(
    Object.entries({ gt, gte, lt, lte }).filter(([, bound]) => bound !== undefined),
  );
  return Object.keys(range).length === 0 ? [] : [{ key, range }];
}
