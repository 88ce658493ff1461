import { createRoute, z } from '@hono/zod-openapi';
import { etag } from 'hono/etag';
import type { Config } from '../config/config.ts';
import type { ErrorCode } from '../errors/error-table.ts';
import { limitBody, toBodyBytes } from '../routing/body.ts';
import { parseFilterQuery } from '../routing/filter.ts';
import { toWirePayload } from '../routing/payload.ts';
import { problems } from '../routing/problem.ts';
import { type ApiRouter, addBodyRoute, createRouter } from '../routing/router.ts';
import { productId } from '../routing/schemas.ts';
import type { Hit, VectorStore } from '../vectors/port.ts';
import { parseFacetRequest, toWireFacets } from './facets.ts';
import { readQuery, toSearchRequest } from './query.ts';
import { createQueryVectors, type QueryParts } from './query-vectors.ts';
import { searchForm, searchReply, searchRequest, similarQuery } from './schemas.ts';

export interface SearchParts extends Omit<QueryParts, 'store'> {
  readonly config: Pick<Config, 'images' | 'search'>;
  readonly store: Pick<VectorStore, 'getProduct' | 'search' | 'facets'>;
  /** Makes sure that the collection is there and the model is loaded. */
  readonly prepare: () => Promise<void>;
}

/** What every search can meet. */
const failures = [
  'invalid_request',
  'invalid_json',
  'product_not_found',
  'model_mismatch',
  'model_unavailable',
  'device_unavailable',
  'store_rejected',
  'store_unavailable',
] as const satisfies readonly ErrorCode[];

const searchRoute = createRoute({
  method: 'post',
  path: '/search',
  tags: ['Search'],
  summary: 'Find products',
  description:
    'By an image, by a stored product, by a text, or by several of them, fused by reciprocal rank fusion. A product stands for its image `main`, or for the mean of its images where it has none of that name. A text is searched for by its words with every model, and by its meaning where the model has a text encoder. With `facets` the answer also counts the products that pass the filter.',
  request: {
    body: {
      required: true,
      content: {
        'application/json': { schema: searchRequest },
        'multipart/form-data': { schema: searchForm },
      },
    },
  },
  responses: {
    200: { description: 'The best first', content: { 'application/json': { schema: searchReply } } },
    ...problems(
      ...failures,
      'body_too_large',
      'server_busy',
      'unsupported_media_type',
      'text_not_supported',
      'image_url_invalid',
      'image_address_blocked',
      'image_not_found',
      'image_access_denied',
      'image_path_forbidden',
      'image_too_large',
      'image_too_many_pixels',
      'image_too_complex',
      'image_too_small',
      'image_aspect_ratio',
      'image_blank',
      'image_placeholder',
      'image_decode_timeout',
      'image_decoder_crashed',
      'image_unsupported',
      'image_corrupt',
      'image_encoded',
      'image_host_busy',
      'image_host_slow',
      'image_host_unknown',
      'image_server_error',
      'image_fetch_failed',
      'image_fetch_timeout',
      'embedding_failed',
      'embedding_thread_crashed',
      'embedding_timed_out',
      'embedding_invalid',
    ),
  },
});

const similarRoute = createRoute({
  method: 'get',
  path: '/products/{product_id}/similar',
  tags: ['Search'],
  summary: 'Find products that look like a stored one',
  description:
    'The same as a search with `product_id`, for links and for caches: with `ETag`, and fresh for a minute.',
  request: { params: z.object({ product_id: productId }), query: similarQuery },
  responses: {
    200: { description: 'The nearest first', content: { 'application/json': { schema: searchReply } } },
    304: { description: 'The same as what `If-None-Match` names' },
    ...problems(...failures),
  },
});

export function createSearchRoutes(parts: SearchParts): ApiRouter {
  const { config, store, embedder, prepare } = parts;
  const routes = createRouter();
  const vectors = createQueryVectors(parts);

  routes.use(searchRoute.path, limitBody(toBodyBytes(config.images.maxBytes)));
  addBodyRoute(routes, searchRoute, async (c) => {
    const query = await readQuery(c, config.images);
    const counted =
      query.facets === undefined
        ? null
        : parseFacetRequest(query.facets, query.filter, config.search.facetKeys);
    await prepare();
    const findHits = async () =>
      query.limit === 0 ? [] : store.search(await toSearchRequest(query, vectors, c.req.raw.signal));
    const [hits, facets] = await Promise.all([
      findHits(),
      counted === null ? null : store.facets(counted).then((found) => toWireFacets(found, counted)),
    ]);
    return c.json(
      { hits: hits.map(toWireHit), ...(facets !== null && { facets }), model: embedder.model.id },
      200,
    );
  });

  routes.use('/products/:product_id/similar', etag());
  routes.openapi(similarRoute, async (c) => {
    const { product_id: id } = c.req.valid('param');
    const { limit, offset, score_threshold: scoreThreshold, diversify, ...rest } = c.req.valid('query');
    const filter = parseFilterQuery(rest);
    await prepare();
    const hits = await store.search({
      parts: [{ by: 'image', vector: await vectors.ofProduct(id), weight: 1 }],
      limit,
      offset,
      diversify,
      groupByProduct: true,
      excludeProductIds: [id],
      filter,
      ...(scoreThreshold !== undefined && { scoreThreshold }),
    });
    // What a key or a session was needed for must not reach others through a shared cache.
    const who = c.get('caller').name === null ? 'public' : 'private';
    c.header('Cache-Control', `${who}, max-age=${FRESH_SECONDS}`);
    return c.json({ hits: hits.map(toWireHit), model: embedder.model.id }, 200);
  });

  return routes;
}

/** A product page may show what was similar a minute ago. */
const FRESH_SECONDS = 60;

function toWireHit({ score, matchedBy, payload }: Hit): z.input<typeof searchReply>['hits'][number] {
  return {
    product_id: payload.productId,
    image_id: payload.imageId,
    score,
    matched_by: [...matchedBy],
    image_ref: payload.imageRef,
    payload: toWirePayload(payload),
  };
}
