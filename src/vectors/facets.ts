import type { FacetCount, FacetRequest, Facets } from './port.ts';
import type { NumberRange, Scalar } from './search-filter.ts';

/** One image that passes the filter, with the value of each requested field: a scalar, a list, or something else. */
export interface FacetRow {
  readonly productId: string;
  readonly fields: Readonly<Record<string, unknown>>;
  readonly metadata: Readonly<Record<string, unknown>>;
  readonly price: unknown;
}

/** Counts products, not images: a product counts once per value, whatever number of its images has it. */
export function createFacetCounter(request: FacetRequest) {
  const products = new Set<string>();
  const fields = new Map(request.fields.map((field) => [field, createValueCounter()]));
  const metadata = new Map(request.metadataKeys.map((key) => [key, createValueCounter()]));
  const prices = request.priceRanges.map(() => new Set<string>());
  return {
    add(row: FacetRow): void {
      products.add(row.productId);
      for (const [field, counter] of fields) counter.add(row.fields[field], row.productId);
      for (const [key, counter] of metadata) counter.add(row.metadata[key], row.productId);
      for (const [index, range] of request.priceRanges.entries())
        if (isInside(row.price, range)) prices[index]?.add(row.productId);
    },
    toFacets: (): Facets => ({
      products: products.size,
      fields: Object.fromEntries(
        [...fields].map(([field, { toCounts }]) => [field, toCounts(request.limit)]),
      ),
      metadata: Object.fromEntries(
        [...metadata].map(([key, { toCounts }]) => [key, toCounts(request.limit)]),
      ),
      prices: prices.map((found) => found.size),
    }),
  };
}

function createValueCounter() {
  const found = new Map<Scalar, Set<string>>();
  return {
    add(value: unknown, productId: string): void {
      for (const one of [value].flat()) {
        if (typeof one !== 'string' && typeof one !== 'number' && typeof one !== 'boolean') continue;
        const products = found.get(one);
        if (products === undefined) found.set(one, new Set([productId]));
        else products.add(productId);
      }
    },
    toCounts: (limit: number): readonly FacetCount[] =>
      [...found]
        .map(([value, products]) => ({ value, products: products.size }))
        .toSorted((a, b) => b.products - a.products || compareValues(a.value, b.value))
        .slice(0, limit),
  };
}

function compareValues(a: Scalar, b: Scalar): number {
  if (typeof a !== typeof b) return typeof a < typeof b ? -1 : 1;
  return a < b ? -1 : a > b ? 1 : 0;
}

function isInside(value: unknown, { gt, gte, lt, lte }: NumberRange): boolean {
  return (
    typeof value === 'number' &&
    (gt === undefined || value > gt) &&
    (gte === undefined || value >= gte) &&
    (lt === undefined || value < lt) &&
    (lte === undefined || value <= lte)
  );
}
