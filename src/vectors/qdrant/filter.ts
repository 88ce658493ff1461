import type { Schemas } from '@qdrant/js-client-rest';
import { VitrineError } from '../../errors/vitrine-error.ts';
import {
  FILTER_FIELDS,
  type FieldFilter,
  type NumberRange,
  type Scalar,
  type SearchFilter,
  toFieldCondition,
} from '../search-filter.ts';

type Condition = Schemas['Condition'];

const WIRE_NAMES = { productId: 'product_id', imageId: 'image_id' } as const;

/** A tombstone, or the record of a product's changes: what is stored under an id, but is no point. */
export const IS_TOMBSTONE: Condition = { key: 'deleted', match: { value: true } };

export function isOfProducts(productIds: readonly string[]): Condition {
  return { key: 'product_id', match: { any: [...productIds] } };
}

/** Points that pass the filter. */
export function toPointFilter(
  filter: SearchFilter = {},
  { must = [], mustNot = [] }: { readonly must?: Condition[]; readonly mustNot?: Condition[] } = {},
): Schemas['Filter'] {
  return { must: [...toConditions(filter), ...must], must_not: [IS_TOMBSTONE, ...mustNot] };
}

/** @throws VitrineError `invalid_request` for a metadata key that Qdrant's JSON paths can't name */
export function toConditions(filter: SearchFilter): Condition[] {
  const fields = FILTER_FIELDS.flatMap((field) => {
    const wanted = filter[field];
    const key = field in WIRE_NAMES ? WIRE_NAMES[field as keyof typeof WIRE_NAMES] : field;
    return wanted === undefined ? [] : toFieldConditions(key, wanted);
  });
  const metadata = Object.entries(filter.metadata ?? {}).flatMap(([name, wanted]) =>
    toFieldConditions(toMetadataKey(name), wanted),
  );
  return [...fields, ...metadata];
}

function toFieldConditions(key: string, filter: FieldFilter): Condition[] {
  const { any, all = [], not = [], exists, ...range } = toFieldCondition(filter);
  const isEmpty: Condition = { is_empty: { key } };
  return [
    ...(any === undefined ? [] : [anyOf(key, any)]),
    ...all.map((value) => anyOf(key, [value])),
    ...(not.length === 0 ? [] : [{ must_not: [anyOf(key, not)] }]),
    ...inRange(key, range),
    ...(exists === undefined ? [] : [exists ? { must_not: [isEmpty] } : isEmpty]),
  ];
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
