import { createRoute, z } from '@hono/zod-openapi';
import type { Context } from '../context.ts';
import { VitrineError } from '../errors/vitrine-error.ts';
import type { Readiness } from '../http/readiness.ts';
import { toWireProduct } from '../jobs/wire.ts';
import { problems } from '../routing/problem.ts';
import { type ApiRouter, createRouter } from '../routing/router.ts';
import { productId } from '../routing/schemas.ts';
import { deletedProduct, productView } from '../search/schemas.ts';

const params = z.object({ product_id: productId });

const getRoute = createRoute({
  method: 'get',
  path: '/products/{product_id}',
  tags: ['Products'],
  summary: 'A product as it can be found',
  request: { params },
  responses: {
    200: { description: 'The product', content: { 'application/json': { schema: productView } } },
    ...problems(
      'invalid_request',
      'product_not_found',
      'model_mismatch',
      'store_rejected',
      'store_unavailable',
    ),
  },
});

const deleteRoute = createRoute({
  method: 'delete',
  path: '/products/{product_id}',
  tags: ['Products'],
  summary: 'Delete a product',
  description:
    'Its waiting jobs are cancelled, its running ones end without a write, its vectors are removed. Enqueue it again to bring it back.',
  request: { params },
  responses: {
    200: { description: 'Deleted', content: { 'application/json': { schema: deletedProduct } } },
    ...problems(
      'invalid_request',
      'product_not_found',
      'queue_unavailable',
      'model_mismatch',
      'store_rejected',
      'store_unavailable',
    ),
  },
});

export function createProductRoutes({ queue, store }: Context, readiness: Readiness): ApiRouter {
  const routes = createRouter();

  routes.openapi(getRoute, async (c) => {
    const { product_id: id } = c.req.valid('param');
    await readiness.prepareStore();
    const points = await store.getProduct(id);
    if (points.length === 0) throw notFound();
    return c.json(toWireProduct(id, points), 200);
  });

  routes.openapi(deleteRoute, async (c) => {
    const { product_id: id } = c.req.valid('param');
    await readiness.prepareStore();
    // Jobs first: one that is claimed in between finds its tombstone in the store, and writes nothing.
    const { cancelled, images } = await queue.forgetProduct(id);
    const deleted = await store.deleteProduct(id, images);
    if (deleted === 0 && images.length === 0) throw notFound();
    return c.json({ product_id: id, deleted_images: deleted, cancelled_jobs: cancelled }, 200);
  });

  return routes;
}

const notFound = (): VitrineError =>
  new VitrineError('product_not_found', 'No image of a product with this id is stored.');
