import { z } from '@hono/zod-openapi';
import { invalidRequest, toNearest } from '../routing/faults.ts';
import { numberRange, scalar, toSearchFilter, type WireFilter } from '../routing/filter.ts';
import { count } from '../routing/schemas.ts';
import { FACET_FIELDS, type FacetCount, type FacetRequest, type Facets } from '../vectors/port.ts';
import type { NumberRange } from '../vectors/search-filter.ts';

/** Counted at most, of each kind. */
const MAX_FACETS = 50;

/** What to count. */
export const facetOptions = z
  .strictObject({
    fields: z
      .array(z.enum(FACET_FIELDS))
      .max(FACET_FIELDS.length)
      .default([...FACET_FIELDS]),
    metadata: z.array(z.string()).max(MAX_FACETS).optional().openapi({
      description: 'Keys of metadata, of those in the setting FACET_KEYS; all of them unless given.',
    }),
    price_ranges: z
      .array(numberRange)
      .max(MAX_FACETS)
      .default([])
      .openapi({ example: [{ lt: 50 }, { gte: 50 }] }),
    limit: z
      .int()
      .min(1)
      .max(1000)
      .default(20)
      .openapi({ description: 'Values per field, those of the most products first.' }),
  })
  .openapi('FacetOptions', {
    description:
      'Counts products with an image that passes `filter`, whatever is searched with. `{}` counts all.',
  });

const facetCount = z.object({ value: scalar, products: count }).openapi('FacetCount');
const facetCounts = z.array(facetCount);

export const facetsReply = z
  .object({
    products: count.openapi({ description: 'All that pass the filter.' }),
    fields: z.record(z.string(), facetCounts),
    metadata: z.record(z.string(), facetCounts),
    price_ranges: z
      .array(z.object({ range: numberRange, products: count }))
      .openapi({ description: 'In the order of the request.' }),
  })
  .openapi('Facets', {
    description: 'Products per value. A product with several images counts once per value.',
  });

/**
 * @param keys that may be counted
 * @throws VitrineError `invalid_request` for another key
 */
export function parseFacetRequest(
  options: z.output<typeof facetOptions>,
  filter: WireFilter | undefined,
  keys: readonly string[],
): FacetRequest {
  const { metadata = keys } = options;
  const unknown = metadata.find((key) => !keys.includes(key));
  if (unknown !== undefined) {
    const near = toNearest(unknown, keys);
    const hint = near === undefined ? '' : `; did you mean ${near}?`;
    const message = `names a key that is not in the setting FACET_KEYS${hint}`;
    throw invalidRequest([{ path: 'facets.metadata', message }]);
  }
  return {
    fields: [...new Set(options.fields)],
    metadataKeys: [...new Set(metadata)],
    priceRanges: options.price_ranges.map(toNumberRange),
    limit: options.limit,
    ...(filter !== undefined && { filter: toSearchFilter(filter) }),
  };
}

/** Zod's types have undefined in them, its values don't. */
const toNumberRange = (range: z.output<typeof numberRange>): NumberRange =>
  Object.fromEntries(Object.entries(range));

export function toWireFacets(
  { products, fields, metadata, prices }: Facets,
  { priceRanges }: FacetRequest,
): z.input<typeof facetsReply> {
  return {
    products,
    fields: toWireCounts(fields),
    metadata: toWireCounts(metadata),
    price_ranges: priceRanges.map((range, index) => ({ range, products: prices[index] ?? 0 })),
  };
}

function toWireCounts(byName: Readonly<Record<string, readonly FacetCount[]>>) {
  return Object.fromEntries(
    Object.entries(byName).map(([name, counts]) => [name, counts.map((each) => ({ ...each }))]),
  );
}
