import { z } from '@hono/zod-openapi';
import type { NumberRange, SearchFilter } from '../vectors/search-filter.ts';
import { invalidRequest, parseWith } from './faults.ts';
import { parseJson } from './json.ts';

const MAX_VALUES = 1_000;
const MAX_METADATA_KEYS = 32;

const rangeFields = {
  gt: z.number().optional(),
  gte: z.number().optional(),
  lt: z.number().optional(),
  lte: z.number().optional(),
};

/** The arguments of a `refine` that wants at least one field. */
const notEmpty = (names: readonly string[]) =>
  [
    (value: object): boolean => Object.keys(value).length > 0,
    { error: `must have at least one of ${names.join(', ')}` },
  ] as const;

export const numberRange = z
  .strictObject(rangeFields)
  .refine(...notEmpty(Object.keys(rangeFields)))
  .openapi('NumberRange', { minProperties: 1 });

export const scalar = z.union([z.string(), z.number(), z.boolean()]);

/** What each kind of condition on a field's values takes. */
function conditionFields<Value extends z.ZodType>(value: Value) {
  const values = z.array(value).min(1).max(MAX_VALUES).optional();
  return { any: values, all: values, not: values, exists: z.boolean().optional() };
}

/** A condition on a field: a value, one of several values, or an object with any of `fields`. */
function fieldFilter<Value extends z.ZodType, Fields extends z.ZodRawShape>(
  name: string,
  value: Value,
  fields: Fields,
) {
  const condition = z
    .strictObject(fields)
    .refine(...notEmpty(Object.keys(fields)))
    .openapi(name, { minProperties: 1 });
  return z.union([value, z.array(value).min(1).max(MAX_VALUES), condition]);
}

const text = z.string();
const textFilter = fieldFilter('TextCondition', text, conditionFields(text));
const numberFilter = fieldFilter('NumberCondition', z.number(), {
  ...conditionFields(z.number()),
  ...rangeFields,
});
const metadataFilter = fieldFilter('MetadataCondition', scalar, {
  ...conditionFields(scalar),
  ...rangeFields,
});

export const searchFilter = z
  .strictObject({
    product_id: textFilter.optional(),
    image_id: textFilter.optional(),
    category: textFilter.optional(),
    brand: textFilter.optional(),
    currency: textFilter.optional(),
    tags: textFilter.optional(),
    price: numberFilter.optional(),
    metadata: z
      .record(z.string(), metadataFilter)
      .refine((value) => Object.keys(value).length <= MAX_METADATA_KEYS, {
        error: `must have at most ${MAX_METADATA_KEYS} keys`,
      })
      .optional()
      .openapi({ description: 'By top-level keys of metadata.', maxProperties: MAX_METADATA_KEYS }),
  })
  .openapi('SearchFilter', {
    description:
      'Every given condition must hold. A value must be equal, of a list one value is enough. An object takes `any` (one of these values), `all` (each of these values), `not` (none of these values), `exists`, and for numbers `gt`, `gte`, `lt`, `lte`.',
    example: { category: ['lamps', 'chairs'], price: { lte: 100 }, tags: { not: ['sold-out'] } },
  });

export type WireFilter = z.output<typeof searchFilter>;

export function toSearchFilter(filter: WireFilter): SearchFilter {
  const { product_id: productId, image_id: imageId, ...same } = filter;
  const named = { ...same, productId, imageId };
  // Zod's types have undefined in them, its values don't.
  return Object.fromEntries(Object.entries(named).filter(([, value]) => value !== undefined));
}

const repeated = (description: string) =>
  z
    .union([z.string().transform((value) => [value]), z.array(z.string()).max(MAX_VALUES)])
    .optional()
    .openapi({ type: 'array', items: { type: 'string' }, description });

const price = z.coerce.number().nonnegative().optional();

/** A filter in the query of an address. */
export const filterQuery = {
  category: repeated('Repeat it for any of several.'),
  brand: repeated('Repeat it for any of several.'),
  currency: repeated('Repeat it for any of several.'),
  tag: repeated('Repeat it for any of several.'),
  min_price: price,
  max_price: price,
  filter: z.string().max(16_384).optional().openapi({
    description: 'More conditions: a JSON object as SearchFilter.',
    example: '{"price":{"lt":20}}',
  }),
};

type FilterQuery = { readonly [Name in keyof typeof filterQuery]?: z.output<(typeof filterQuery)[Name]> };

/** @throws VitrineError `invalid_json`, `invalid_request` */
export function parseFilterQuery(query: FilterQuery): SearchFilter {
  const { category, brand, currency, tag, min_price: gte, max_price: lte, filter } = query;
  const given = { category, brand, currency, tags: tag, price: toRange({ gte, lte }) };
  const named = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
  const more = filter === undefined ? {} : parseWith(filterField, { filter: parseJson(filter) }).filter;
  const twice = Object.keys(named).find((name) => name in more);
  if (twice !== undefined) {
    throw invalidRequest([{ path: 'filter', message: `names ${twice}, which is already given by itself` }]);
  }
  return toSearchFilter({ ...more, ...named });
}

/** Named, so that faults in it have whole paths. */
const filterField = z.strictObject({ filter: searchFilter });

function toRange({
  gte,
  lte,
}: {
  gte: number | undefined;
  lte: number | undefined;
}): NumberRange | undefined {
  if (gte === undefined && lte === undefined) return undefined;
  return { ...(gte !== undefined && { gte }), ...(lte !== undefined && { lte }) };
}
