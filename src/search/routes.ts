import { createRoute } from '@hono/zod-openapi';
import type { Context as HonoContext } from 'hono';
import type { ImageRef } from '../catalog/product-image.ts';
import type { Context } from '../context.ts';
import { VitrineError } from '../errors/vitrine-error.ts';
import type { Readiness } from '../http/readiness.ts';
import { toSearchFilter, toWireHit } from '../jobs/wire.ts';
import { readForm, readJson, toBodyKind } from '../routing/body.ts';
import { parseWith } from '../routing/faults.ts';
import { parseForm } from '../routing/forms.ts';
import { hasImage, toFileRef, toImageRef } from '../routing/image-ref.ts';
import { toBodyLimits } from '../routing/limits.ts';
import { problems } from '../routing/problem.ts';
import { type ApiRouter, createRouter } from '../routing/router.ts';
import { createQueryVectors } from './query-vector.ts';
import { type SearchRequestBody, searchForm, searchOptions, searchReply, searchRequest } from './schemas.ts';

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
        'application/json': { schema: { $ref: '#/components/schemas/SearchRequest' } },
        'multipart/form-data': { schema: { $ref: '#/components/schemas/SearchForm' } },
      },
    },
  },
  responses: {
    200: { description: 'The nearest first', content: { 'application/json': { schema: searchReply } } },
    ...problems(
      'invalid_request',
      'invalid_json',
      'body_too_large',
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
      'image_unsupported',
      'image_corrupt',
      'image_server_error',
      'image_fetch_failed',
      'image_fetch_timeout',
      'embedding_failed',
      'embedding_thread_crashed',
      'embedding_invalid',
      'model_mismatch',
      'model_unavailable',
      'store_rejected',
      'store_unavailable',
    ),
  },
});

const SEARCH_FIELDS = Object.keys(searchRequest.shape);

type Query = Pick<SearchRequestBody, 'limit' | 'filter' | 'group_by_product' | 'product_id' | 'text'> & {
  readonly image: ImageRef | undefined;
};

export function createSearchRoutes(context: Context, readiness: Readiness): ApiRouter {
  const { config, embedder, store } = context;
  const routes = createRouter();
  const limits = toBodyLimits(config);
  const vectors = createQueryVectors(context);
  routes.openAPIRegistry.register('SearchRequest', searchRequest);
  routes.openAPIRegistry.register('SearchForm', searchForm);

  routes.openapi(searchRoute, async (c) => {
    const query = await readQuery(c);
    await readiness.prepare();
    const hits = await store.search({
      vector: await toVector(query, c.req.raw.signal),
      limit: query.limit,
      groupByProduct: query.group_by_product,
      ...(query.filter !== undefined && { filter: toSearchFilter(query.filter) }),
      ...(query.product_id !== undefined && { excludeProductId: query.product_id }),
    });
    return c.json({ hits: hits.map(toWireHit), model: embedder.model.id }, 200);
  });

  async function readQuery(c: HonoContext): Promise<Query> {
    if (toBodyKind(c, ['json', 'form']) === 'json') {
      const body = parseWith(searchRequest, await readJson(c, limits.json), SEARCH_FIELDS);
      return { ...body, image: hasImage(body) ? toImageRef(body, config) : undefined };
    }
    const { file, fields } = parseForm(await readForm(c, limits.form));
    const options = parseWith(searchOptions, fields, SEARCH_FIELDS);
    return { ...options, image: await toFileRef(file, config) };
  }

  function toVector({ image, product_id, text }: Query, signal: AbortSignal): Promise<Float32Array> {
    if (image !== undefined) return vectors.ofImage(image, signal);
    if (product_id !== undefined) return vectors.ofProduct(product_id);
    if (text !== undefined) return vectors.ofText(text);
    throw new VitrineError('invalid_request', 'The search names nothing to search with.');
  }

  return routes;
}
