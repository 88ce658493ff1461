import { createRoute, z } from '@hono/zod-openapi';
import { VitrineError } from '../errors/vitrine-error.ts';
import type { JobQueue } from '../queue/port.ts';
import { imageRef, payload, toWirePayload } from '../routing/payload.ts';
import { problems } from '../routing/problem.ts';
import { type ApiRouter, createRouter } from '../routing/router.ts';
import { count, productId } from '../routing/schemas.ts';
import type { StoredPoint, VectorStore } from '../vectors/port.ts';

export interface ProductParts {
  readonly queue: Pick<JobQueue, 'forgetProduct'>;
  readonly store: Pick<VectorStore, 'getProduct' | 'deleteProduct'>;
  /** Makes sure that the collection is there. */
  readonly prepareStore: () => Promise<void>;
}

const productView = z
  .object({
    product_id: z.string(),
    images: z.array(z.object({ image_id: z.string(), point_id: z.string(), image_ref: imageRef, payload })),
  })
  .openapi('Product');

const deletedProduct = z
  .object({
    product_id: z.string(),
    deleted_images: count.openapi({ description: 'Images that could be found until now.' }),
    cancelled_jobs: count.openapi({
      description: 'Jobs of the product that waited or were in the dead letter.',
    }),
  })
  .openapi('DeletedProduct');

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
    'Its waiting jobs are cancelled, its running ones end without a write, its vectors are removed. Whatever was enqueued before, dead letters included, never brings it back; enqueue it again to do so. May be repeated: 200, also when nothing was there.',
  request: { params },
  responses: {
    200: { description: 'Deleted', content: { 'application/json': { schema: deletedProduct } } },
    ...problems(
      'invalid_request',
      'queue_unavailable',
      'model_mismatch',
      'store_rejected',
      'store_unavailable',
    ),
  },
});

export function createProductRoutes({ queue, store, prepareStore }: ProductParts): ApiRouter {
  const routes = createRouter();

  routes.openapi(getRoute, async (c) => {
    const { product_id: id } = c.req.valid('param');
    await prepareStore();
    const points = await store.getProduct(id);
    if (points.length === 0) {
      throw new VitrineError('product_not_found', 'No image of a product with this id is stored.');
    }
    return c.json({ product_id: id, images: points.map(toWireImage) }, 200);
  });

  routes.openapi(deleteRoute, async (c) => {
    const { product_id: id } = c.req.valid('param');
    await prepareStore();
    // Jobs first: one that is claimed in between finds the tombstone in the store.
    const { sequence, cancelled, imageIds } = await queue.forgetProduct(id);
    const deleted = await store.deleteProduct(id, sequence, imageIds);
    return c.json({ product_id: id, deleted_images: deleted, cancelled_jobs: cancelled }, 200);
  });

  return routes;
}

function toWireImage({ id, payload }: StoredPoint): z.input<typeof productView>['images'][number] {
  return {
    image_id: payload.imageId,
    point_id: id,
    image_ref: payload.imageRef,
    payload: toWirePayload(payload),
  };
}
