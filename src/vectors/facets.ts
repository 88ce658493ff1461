import type { FacetCount, FacetRequest, Facets } from './port.ts';
import type { NumberRange, Scalar } from './search-filter.ts';

/** One image that passes the filter. A value is a scalar, a list, or something else, which counts nowhere. */
export interface FacetImage {
  /** By requested field. */
  readonly fields: Readonly<Record<string, unknown>>;
  /** By requested key. */
  readonly metadata: Readonly<Record<string, unknown>>;
  /** By requested price range, in order. */
  readonly isInRange: readonly boolean[];
}

/** Counts products, not images: a product counts once per value, whatever number of its images has it. */
export function createFacetCounter(request: FacetRequest) {
  let all = 0;
  const fields = new Map(request.fields.map((field) => [field, new Map<Scalar, number>()]));
  const metadata = new Map(request.metadataKeys.map((key) => [key, new Map<Scalar, number>()]));
  const prices = request.priceRanges.map(() => 0);
  return {
    /** All images of a product that pass, and how many products have images just like these. */
    add(images: readonly FacetImage[], products: number): void {
      all += products;
      for (const [field, counts] of fields) {
        addTo(
          counts,
          images.map((image) => image.fields[field]),
          products,
        );
      }
      for (const [key, counts] of metadata) {
        addTo(
          counts,
          images.map((image) => image.metadata[key]),
          products,
        );
      }
      for (const index of prices.keys())
        if (images.some((image) => image.isInRange[index])) prices[index] = (prices[index] ?? 0) + products;
    },
    toFacets: (): Facets => ({
      products: all,
      fields: toCounts(fields, request.limit),
      metadata: toCounts(metadata, request.limit),
      prices,
    }),
  };
}

/** @param values one per image, or a list of them */
function addTo(counts: Map<Scalar, number>, values: readonly unknown[], products: number): void {
  for (const value of new Set(values.flat()))
    if (isScalar(value)) counts.set(value, (counts.get(value) ?? 0) + products);
}

function toCounts(
  byName: ReadonlyMap<string, ReadonlyMap<Scalar, number>>,
  limit: number,
): Record<string, readonly FacetCount[]> {
  return Object.fromEntries(
    [...byName].map(([name, counts]) => [
      name,
      sortCounts([...counts].map(([value, products]) => ({ value, products }))).slice(0, limit),
    ]),
  );
}

/** Those of the most products first; equal ones by their values. */
export function sortCounts(counts: readonly FacetCount[]): readonly FacetCount[] {
  return counts.toSorted((a, b) => b.products - a.products || compareValues(a.value, b.value));
}

function isScalar(value: unknown): value is Scalar {
  return typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean';
}

function compareValues(a: Scalar, b: Scalar): number {
  if (typeof a !== typeof b) return typeof a < typeof b ? -1 : 1;
  return a < b ? -1 : a > b ? 1 : 0;
}

export function isInside(value: unknown, { gt, gte, lt, lte }: NumberRange): boolean {
  return (
    typeof value === 'number' &&
    (gt === undefined || value > gt) &&
    (gte === undefined || value >= gte) &&
    (lt === undefined || value < lt) &&
    (lte === undefined || value <= lte)
  );
}
