import { createRoute, type z } from '@hono/zod-openapi';
import type { Context } from 'hono';
import type { ImageRef } from '../catalog/product-image.ts';
import type { Config } from '../config/config.ts';
import { VitrineError } from '../errors/vitrine-error.ts';
import { limitBody, parseBodyKind, readForm, readJson, toBodyBytes } from '../routing/body.ts';
import { parseWith } from '../routing/faults.ts';
import { parseFile, parseImageRef } from '../routing/image-fields.ts';
import { toWirePayload } from '../routing/payload.ts';
import { problems } from '../routing/problem.ts';
import { type ApiRouter, addBodyRoute, createRouter } from '../routing/router.ts';
import type { Hit, VectorStore } from '../vectors/port.ts';
import type { SearchFilter } from '../vectors/search-filter.ts';
import { createQueryVectors, type QueryParts } from './query-vectors.ts';
import { type searchFilter, searchForm, searchOptions, searchReply, searchRequest } from './schemas.ts';

export interface SearchParts extends Omit<QueryParts, 'store'> {
  readonly config: Pick<Config, 'images'>;
  readonly store: Pick<VectorStore, 'getProduct' | 'search'>;
  /** Makes sure that the collection is there and the model is loaded. */
  readonly prepare: () => Promise<void>;
}

const searchRoute = createRoute({
  method: 'post',
  path: '/search',
  tags: ['Search'],
  summary: 'Find similar products',
  description:
    'By an image, by a stored product, or by words where the model has a text encoder. A product stands for its image `main`, or for the mean of its images where it has none of that name.',
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
    200: { description: 'The nearest first', content: { 'application/json': { schema: searchReply } } },
    ...problems(
      'invalid_request',
      'invalid_json',
      'body_too_large',
      'server_busy',
      'unsupported_media_type',
      'product_not_found',
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
      'model_mismatch',
      'model_unavailable',
      'store_rejected',
      'store_unavailable',
    ),
  },
});

type Query = Pick<
  z.infer<typeof searchRequest>,
  'limit' | 'filter' | 'group_by_product' | 'product_id' | 'text'
> & { readonly image: ImageRef | Uint8Array | undefined };

export function createSearchRoutes(parts: SearchParts): ApiRouter {
  const { config, store, embedder, prepare } = parts;
  const routes = createRouter();
  const vectors = createQueryVectors(parts);

  routes.use(searchRoute.path, limitBody(toBodyBytes(config.images.maxBytes)));
  addBodyRoute(routes, searchRoute, async (c) => {
    const query = await readQuery(c);
    await prepare();
    const hits = await store.search({
      vector: await embedQuery(query, c.req.raw.signal),
      limit: query.limit,
      groupByProduct: query.group_by_product,
      ...(query.filter !== undefined && { filter: toSearchFilter(query.filter) }),
      ...(query.product_id !== undefined && { excludeProductId: query.product_id }),
    });
    return c.json({ hits: hits.map(toWireHit), model: embedder.model.id }, 200);
  });

  async function readQuery(c: Context): Promise<Query> {
    if (parseBodyKind(c, ['json', 'form']) === 'json') {
      const request = parseWith(searchRequest, await readJson(c));
      return { ...request, image: parseImageRef(request, config.images) };
    }
    const { file, fields } = await readForm(c);
    return { ...parseWith(searchOptions, fields), image: parseFile(file, config.images) };
  }

  async function embedQuery(query: Query, signal: AbortSignal): Promise<Float32Array> {
    if (query.image !== undefined) return vectors.ofImage(query.image, signal);
    if (query.product_id !== undefined) return vectors.ofProduct(query.product_id);
    if (query.text !== undefined) return vectors.ofText(query.text);
    throw new VitrineError('invalid_request', 'The search names nothing to search with.');
  }

  return routes;
}

function toSearchFilter(filter: z.infer<typeof searchFilter>): SearchFilter {
  const { product_id: productId, image_id: imageId, ...same } = filter;
  const named = { ...same, productId, imageId };
  return Object.fromEntries(Object.entries(named).filter(([, value]) => value !== undefined));
}

function toWireHit({ score, payload }: Hit): z.input<typeof searchReply>['hits'][number] {
  return {
    product_id: payload.productId,
    image_id: payload.imageId,
    score,
    image_ref: payload.imageRef,
    payload: toWirePayload(payload),
  };
}
