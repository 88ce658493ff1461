import type { Schemas } from '@qdrant/js-client-rest';
import { createFacetCounter, type FacetImage, isInside, sortCounts } from '../facets.ts';
import type { FacetCount, FacetRequest, Facets } from '../port.ts';
import { toConditions, toPointFilter } from './filter.ts';
import type { WirePayload } from './points.ts';
import { type QdrantRequests, SMALL_POINTS_PER_REQUEST } from './requests.ts';

/**
 * Qdrant's facets count points, not products. That is the same where no product has two images that pass; it is so where
 * all of them have the same image id. Keys of metadata have no index, which Qdrant's facets need.
 */
export async function facets(requests: QdrantRequests, request: FacetRequest): Promise<Facets> {
  if (request.metadataKeys.length > 0) return countProducts(requests, request);
  const imageIds = await countValues(requests, request, 'image_id', 2);
  return imageIds.length < 2 ? countPoints(requests, request) : countProducts(requests, request);
}

async function countPoints(requests: QdrantRequests, request: FacetRequest): Promise<Facets> {
  const { filter, fields, priceRanges, limit } = request;
  const [products, counts, prices] = await Promise.all([
    requests.count(toPointFilter(filter)),
    Promise.all(fields.map((field) => countValues(requests, request, field, limit))),
    Promise.all(
      priceRanges.map((range) => {
        const must = toConditions({ price: { ...range, exists: true } });
        return requests.count(toPointFilter(filter, { must }));
      }),
    ),
  ]);
  const byField = fields.map((field, index) => [field, sortCounts(counts[index] ?? [])] as const);
  return { products, fields: Object.fromEntries(byField), metadata: {}, prices };
}

/** Points that pass per value of an indexed field: the most frequent values. */
async function countValues(
  requests: QdrantRequests,
  { filter }: FacetRequest,
  key: string,
  limit: number,
): Promise<readonly FacetCount[]> {
  const body: Schemas['FacetRequest'] = { key, limit, exact: true, filter: toPointFilter(filter) };
  const { hits } = await requests.call('facet', (api, options) =>
    api.facet({ ...requests.inCollection, ...body }, options),
  );
  return hits.map(({ value, count }) => ({ value, products: count }));
}

/** The images of a product need not have the same data: the few fields in question are read of each point that passes. */
async function countProducts(requests: QdrantRequests, request: FacetRequest): Promise<Facets> {
  const payload = [
    'product_id',
    ...request.fields,
    ...(request.priceRanges.length > 0 ? ['price'] : []),
    ...(request.metadataKeys.length > 0 ? ['metadata'] : []),
  ];
  const pages = requests.scroll(
    toPointFilter(request.filter),
    { withVector: false, payload },
    SMALL_POINTS_PER_REQUEST,
  );
  const images = new Map<string, FacetImage[]>();
  for await (const records of pages) {
    for (const record of records) {
      const fields: WirePayload = record.payload ?? {};
      const image = {
        fields,
        metadata: (fields['metadata'] ?? {}) as Record<string, unknown>,
        isInRange: request.priceRanges.map((range) => isInside(fields['price'], range)),
      };
      const productId = String(fields['product_id']);
      const others = images.get(productId);
      if (others === undefined) images.set(productId, [image]);
      else others.push(image);
    }
  }
  const counter = createFacetCounter(request);
  for (const each of images.values()) counter.add(each, 1);
  return counter.toFacets();
}
