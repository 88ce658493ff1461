import type { Schemas } from '@qdrant/js-client-rest';
import { VitrineError } from '../../errors/vitrine-error.ts';
import { parseCursor, toCursor } from '../cursor.ts';
import type {
  ProductListRequest,
  ProductPage,
  QueryPart,
  SearchRequest,
  StoredImage,
  StoredPoint,
} from '../port.ts';
import type { Candidate, RankOptions } from '../search.ts';
import { toCosine } from '../vector.ts';
import type { WordAnalyzer } from '../words.ts';
import { isOfProducts, toPointFilter } from './filter.ts';
import { toPayload, toStoredPoint, VECTOR_NAME } from './points.ts';
import { POINTS_PER_REQUEST, type QdrantRequests, SMALL_POINTS_PER_REQUEST, toChunks } from './requests.ts';
import { toSparseQuery, WORDS_VECTOR } from './words.ts';

export interface ReadParts {
  readonly requests: QdrantRequests;
  readonly analyzer: WordAnalyzer;
}

export async function rank(
  { requests, analyzer }: ReadParts,
  part: QueryPart,
  request: SearchRequest,
  { limit, withPayload }: RankOptions,
): Promise<readonly Candidate[]> {
  const { filter, groupByProduct, excludeProductIds = [], scoreThreshold } = request;
  const query = toQuery(part, analyzer);
  if (query === null) return [];
  const body = {
    ...requests.inCollection,
    ...query,
    limit,
    with_payload: withPayload ? true : ['product_id'],
    filter: toPointFilter(filter, {
      mustNot: excludeProductIds.length === 0 ? [] : [isOfProducts(excludeProductIds)],
    }),
    ...(part.by !== 'words' && scoreThreshold !== undefined && { score_threshold: scoreThreshold }),
  };
  const points = groupByProduct ? await queryGroups(requests, body) : await queryPoints(requests, body);
  return points.map((point) => toCandidate(point, part, withPayload)).toSorted(compareCandidates);
}

/** Null when there is no word to search with. */
function toQuery(
  part: QueryPart,
  analyzer: WordAnalyzer,
): Pick<Schemas['QueryRequest'], 'query' | 'using'> | null {
  if (part.by !== 'words') return { query: Array.from(part.vector), using: VECTOR_NAME };
  const query = toSparseQuery(analyzer.ofQuery(part.text));
  return query === null ? null : { query, using: WORDS_VECTOR };
}

type QueryBody = Schemas['QueryRequest'] & { readonly collection_name: string };

async function queryPoints(
  requests: QdrantRequests,
  body: QueryBody,
): Promise<readonly Schemas['ScoredPoint'][]> {
  const { points } = await requests.call('query points', (api, options) => api.queryPoints(body, options));
  return points;
}

async function queryGroups(
  requests: QdrantRequests,
  body: QueryBody,
): Promise<readonly Schemas['ScoredPoint'][]> {
  const { groups } = await requests.call('query groups', (api, options) =>
    api.queryPointsGroups({ ...body, group_by: 'product_id', group_size: 1 }, options),
  );
  return groups.flatMap((group) => group.hits);
}

function toCandidate(
  { id, score, payload }: Schemas['ScoredPoint'],
  part: QueryPart,
  withPayload: boolean,
): Candidate {
  return {
    id: String(id),
    productId: String(payload?.['product_id'] ?? ''),
    score: part.by === 'words' ? score : toCosine(score),
    ...(withPayload && { payload: toPayload(payload ?? {}) }),
  };
}

/** Best first; equal ones by id, as the embedded store has them. */
function compareCandidates(a: Candidate, b: Candidate): number {
  return b.score - a.score || (a.id < b.id ? -1 : 1);
}

export async function loadPoints(
  requests: QdrantRequests,
  ids: readonly string[],
): Promise<readonly StoredPoint[]> {
  const records = await requests.retrieveWithVectors(ids);
  return records.filter(({ payload }) => payload?.['deleted'] !== true).map(toStoredPoint);
}

export async function getProduct(
  requests: QdrantRequests,
  productId: string,
): Promise<readonly StoredPoint[]> {
  const points: StoredPoint[] = [];
  const content = { withVector: true, payload: true };
  for await (const records of requests.scroll(toPointFilter({ productId }), content))
    points.push(...records.map(toStoredPoint));
  return points.toSorted(compareImages);
}

const compareImages = (a: StoredImage, b: StoredImage): number =>
  a.payload.imageId < b.payload.imageId ? -1 : 1;

/**
 * Qdrant pages through points in the order of their ids, so a product stands where the first of its points does that
 * passes the filter.
 */
export async function listProducts(
  requests: QdrantRequests,
  { filter, limit, cursor }: ProductListRequest,
): Promise<ProductPage> {
  const from = cursor === undefined ? undefined : parseUuid(parseCursor('qdrant', cursor));
  const productIds: string[] = [];
  const content = { withVector: false, payload: ['product_id'], ...(from !== undefined && { from }) };
  for await (const records of requests.scroll(toPointFilter(filter), content, pageSizeFor(limit))) {
    const firsts = await readFirstPoints(requests, filter, records);
    for (const { id, payload } of records) {
      const productId = String(payload?.['product_id']);
      if (firsts.get(productId) !== String(id)) continue;
      if (productIds.length === limit) {
        const products = await loadProducts(requests, productIds);
        return { products, cursor: toCursor('qdrant', String(id)) };
      }
      productIds.push(productId);
    }
  }
  return { products: await loadProducts(requests, productIds), cursor: null };
}

const pageSizeFor = (limit: number): number => Math.min(limit + 1, SMALL_POINTS_PER_REQUEST);

/** By product: the smallest id of its points that pass. */
async function readFirstPoints(
  requests: QdrantRequests,
  filter: ProductListRequest['filter'],
  records: readonly Schemas['Record'][],
): Promise<ReadonlyMap<string, string>> {
  const firsts = new Map<string, string>();
  const productIds = [...new Set(records.map(({ payload }) => String(payload?.['product_id'])))];
  for (const chunk of toChunks(productIds, POINTS_PER_REQUEST)) {
    const passing = toPointFilter(filter, { must: [isOfProducts(chunk)] });
    const content = { withVector: false, payload: ['product_id'] };
    for await (const points of requests.scroll(passing, content, SMALL_POINTS_PER_REQUEST)) {
      for (const { id, payload } of points) {
        const productId = String(payload?.['product_id']);
        if (!firsts.has(productId)) firsts.set(productId, String(id));
      }
    }
  }
  return firsts;
}

async function loadProducts(
  requests: QdrantRequests,
  productIds: readonly string[],
): Promise<ProductPage['products']> {
  const images = new Map<string, StoredImage[]>(productIds.map((productId) => [productId, []]));
  for (const chunk of toChunks(productIds, POINTS_PER_REQUEST)) {
    const content = { withVector: false, payload: true };
    for await (const records of requests.scroll(toPointFilter({ productId: chunk }), content)) {
      for (const { id, payload } of records) {
        const image = { id: String(id), payload: toPayload(payload ?? {}) };
        images.get(image.payload.productId)?.push(image);
      }
    }
  }
  return [...images]
    .filter(([, found]) => found.length > 0)
    .map(([productId, found]) => ({ productId, images: found.toSorted(compareImages) }));
}

/** @throws VitrineError `invalid_request` */
function parseUuid(text: string): string {
  if (/^[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}$/.test(text)) return text;
  throw new VitrineError('invalid_request', 'The cursor is none that a page of this list ended with.');
}

export async function* scanPoints(requests: QdrantRequests): AsyncGenerator<readonly StoredPoint[]> {
  const content = { withVector: true, payload: true };
  for await (const records of requests.scroll(toPointFilter(), content, POINTS_PER_SCAN))
    yield records.map(toStoredPoint);
}

const POINTS_PER_SCAN = 512;
