import { createRoute, type z } from '@hono/zod-openapi';
import type { ErrorCode } from '../errors/error-table.ts';
import { VitrineError } from '../errors/vitrine-error.ts';
import type { JobQueue } from '../queue/port.ts';
import { limitBody, parseBodyKind, readJson, toBodyBytes } from '../routing/body.ts';
import { invalidRequest, parseWith } from '../routing/faults.ts';
import { parseFilterQuery } from '../routing/filter.ts';
import { problems } from '../routing/problem.ts';
import { type ApiRouter, addBodyRoute, createRouter } from '../routing/router.ts';
import { MAX_METADATA_BYTES } from '../routing/schemas.ts';
import type { ThumbnailCache } from '../thumbnails/cache.ts';
import type { ProductPatch, StoredPoint, VectorStore } from '../vectors/port.ts';
import { createSharedDuplicates } from './duplicates.ts';
import {
  deletedProduct,
  duplicatesQuery,
  duplicatesReply,
  imageParams,
  listQuery,
  MAX_PAGE,
  productPage,
  productParams,
  productPatch,
  productView,
} from './schemas.ts';
import { toWireDuplicates, toWirePage, toWireProduct } from './wire.ts';

export interface ProductParts {
  readonly queue: Pick<JobQueue, 'forgetProduct' | 'jobsOf' | 'nextSequence'>;
  readonly store: Pick<
    VectorStore,
    'getProduct' | 'listProducts' | 'updateProduct' | 'deleteProduct' | 'deleteImage' | 'duplicates'
  >;
  readonly thumbnails: Pick<ThumbnailCache, 'removeProduct'>;
  /** Makes sure that the collection is there. */
  readonly prepareStore: () => Promise<void>;
}

const storeFailures = [
  'invalid_request',
  'model_mismatch',
  'model_unavailable',
  'device_unavailable',
  'store_rejected',
  'store_unavailable',
] as const satisfies readonly ErrorCode[];
const queueFailures = ['queue_unavailable', 'queue_unsafe'] as const satisfies readonly ErrorCode[];

const listRoute = createRoute({
  method: 'get',
  path: '/products',
  tags: ['Products'],
  summary: 'List the products',
  description:
    'Products with an image that passes the filter, each with all of its images, in an order that stays the same while others are added and removed.',
  request: { query: listQuery },
  responses: {
    200: { description: 'A page', content: { 'application/json': { schema: productPage } } },
    ...problems(...storeFailures, 'invalid_json'),
  },
});

const duplicatesRoute = createRoute({
  method: 'get',
  path: '/products/duplicates',
  tags: ['Products'],
  summary: 'Find pictures that several products share',
  description:
    'Groups of images of at least two products: the same bytes, or nearly the same picture. Reads every stored image, so it takes seconds for a hundred thousand of them. A server does this once at a time: requests for the same threshold share an answer, which may have been begun before they came; those for others wait.',
  request: { query: duplicatesQuery },
  responses: {
    200: { description: 'The groups', content: { 'application/json': { schema: duplicatesReply } } },
    ...problems(...storeFailures, 'server_busy'),
  },
});

const getRoute = createRoute({
  method: 'get',
  path: '/products/{product_id}',
  tags: ['Products'],
  summary: 'A product with its images and jobs',
  request: { params: productParams },
  responses: {
    200: { description: 'The product', content: { 'application/json': { schema: productView } } },
    ...problems(...storeFailures, ...queueFailures, 'product_not_found'),
  },
});

const patchRoute = createRoute({
  method: 'patch',
  path: '/products/{product_id}',
  tags: ['Products'],
  summary: "Change a product's data",
  description:
    'All of its images get the new data at once, and nothing is embedded again. Jobs that were enqueued before bring their pictures as they would have, with the changed data; a job that is enqueued later brings its own data. May be repeated.',
  request: {
    params: productParams,
    body: { required: true, content: { 'application/json': { schema: productPatch } } },
  },
  responses: {
    200: {
      description: 'The product as it is now',
      content: { 'application/json': { schema: productView } },
    },
    ...problems(
      ...storeFailures,
      ...queueFailures,
      'invalid_json',
      'body_too_large',
      'unsupported_media_type',
      'product_not_found',
    ),
  },
});

const deleteRoute = createRoute({
  method: 'delete',
  path: '/products/{product_id}',
  tags: ['Products'],
  summary: 'Delete a product',
  description:
    'Its waiting jobs are cancelled, its running ones end without a write, its vectors are removed. Whatever was enqueued before, dead letters included, never brings it back; enqueue it again to do so. May be repeated: 200, also when nothing was there.',
  request: { params: productParams },
  responses: {
    200: { description: 'Deleted', content: { 'application/json': { schema: deletedProduct } } },
    ...problems(...storeFailures, ...queueFailures),
  },
});

const deleteImageRoute = createRoute({
  method: 'delete',
  path: '/products/{product_id}/images/{image_id}',
  tags: ['Products'],
  summary: 'Delete one image of a product',
  description: 'The same for one image: the others stay, and so do their jobs.',
  request: { params: imageParams },
  responses: {
    200: { description: 'Deleted', content: { 'application/json': { schema: deletedProduct } } },
    ...problems(...storeFailures, ...queueFailures),
  },
});

export function createProductRoutes({ queue, store, thumbnails, prepareStore }: ProductParts): ApiRouter {
  const routes = createRouter();
  const findDuplicates = createSharedDuplicates(store, MAX_PAGE);

  routes.openapi(listRoute, async (c) => {
    const { limit, cursor, ...filter } = c.req.valid('query');
    const request = { filter: parseFilterQuery(filter), limit, ...(cursor !== undefined && { cursor }) };
    await prepareStore();
    return c.json(toWirePage(await store.listProducts(request)), 200);
  });

  // Before the route of a product, which would take the name for an id.
  routes.openapi(duplicatesRoute, async (c) => {
    const { signal } = c.req.raw;
    const { threshold, limit } = c.req.valid('query');
    await prepareStore();
    return c.json(toWireDuplicates(await findDuplicates({ threshold, limit, signal })), 200);
  });

  routes.openapi(getRoute, async (c) => {
    const { product_id: id } = c.req.valid('param');
    await prepareStore();
    return c.json(await readProduct(id), 200);
  });

  routes.use('/products/:product_id', limitBody(toBodyBytes(0)));
  addBodyRoute(routes, patchRoute, async (c) => {
    const { product_id: id } = c.req.valid('param');
    parseBodyKind(c, ['json']);
    const patch = parseWith(productPatch, await readJson(c));
    await prepareStore();
    const points = await store.getProduct(id);
    // Throws unless a job is on its way: its image gets the changed data.
    if (points.length === 0) toWireProduct(id, [], await queue.jobsOf(id));
    checkMetadata(points, patch.metadata);
    await store.updateProduct(id, toProductPatch(patch), await queue.nextSequence());
    return c.json(await readProduct(id), 200);
  });

  routes.openapi(deleteRoute, async (c) => {
    const { product_id: id } = c.req.valid('param');
    await prepareStore();
    // Jobs first: one that is claimed in between finds the tombstone in the store.
    const { sequence, cancelled, imageIds } = await queue.forgetProduct(id);
    const deleted = await store.deleteProduct(id, sequence, imageIds);
    await thumbnails.removeProduct(id);
    return c.json({ product_id: id, deleted_images: deleted, cancelled_jobs: cancelled }, 200);
  });

  routes.openapi(deleteImageRoute, async (c) => {
    const { product_id: id, image_id: imageId } = c.req.valid('param');
    await prepareStore();
    const { sequence, cancelled } = await queue.forgetProduct(id, imageId);
    const wasStored = await store.deleteImage(id, imageId, sequence);
    await thumbnails.removeProduct(id, imageId);
    return c.json({ product_id: id, deleted_images: wasStored ? 1 : 0, cancelled_jobs: cancelled }, 200);
  });

  async function readProduct(id: string): Promise<z.input<typeof productView>> {
    const [points, jobs] = await Promise.all([
      store.getProduct(id),
      queue.jobsOf(id).catch((error: unknown) => {
        if (isQueueAway(error)) return error;
        throw error;
      }),
    ]);
    if (!(jobs instanceof VitrineError)) return toWireProduct(id, points, jobs);
    // Without an image, only the queue could say whether the product exists.
    if (points.length === 0) throw jobs;
    return toWireProduct(id, points, null);
  }

  return routes;
}

const AWAY: readonly string[] = queueFailures;

const isQueueAway = (error: unknown): error is VitrineError =>
  error instanceof VitrineError && AWAY.includes(error.code);

/** @throws VitrineError `invalid_request` when an image would have more metadata than a job may bring */
function checkMetadata(
  points: readonly StoredPoint[],
  changes: Readonly<Record<string, unknown>> | undefined,
): void {
  if (changes === undefined) return;
  const isTooLarge = points.some(({ payload }) => {
    const merged = Object.entries({ ...payload.metadata, ...changes }).filter(([, value]) => value !== null);
    return Buffer.byteLength(JSON.stringify(Object.fromEntries(merged))) > MAX_METADATA_BYTES;
  });
  if (isTooLarge) {
    const message = `would have more than ${MAX_METADATA_BYTES} bytes as JSON with what it has already`;
    throw invalidRequest([{ path: 'metadata', message }]);
  }
}

/** Zod's types have undefined in them, its values don't. */
const toProductPatch = (patch: z.output<typeof productPatch>): ProductPatch =>
  Object.fromEntries(Object.entries(patch).filter(([, value]) => value !== undefined));
