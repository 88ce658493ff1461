import type { z } from '@hono/zod-openapi';
import { VitrineError } from '../errors/vitrine-error.ts';
import type { JobView } from '../queue/port.ts';
import { toWirePayload } from '../routing/payload.ts';
import type { Duplicates, ProductPage, StoredImage } from '../vectors/port.ts';
import type { duplicatesReply, productPage, productView } from './schemas.ts';

type WireProduct = z.input<typeof productView>;
type WireImage = WireProduct['images'][number];

/**
 * What is stored of a product and what is still to come.
 * @param jobs null when they can't be known
 * @throws VitrineError `product_not_found` when there is neither an image nor a job
 */
export function toWireProduct(
  productId: string,
  points: readonly StoredImage[],
  jobs: readonly JobView[] | null,
): WireProduct {
  // One that was asked to stop brings no image.
  const live = jobs?.filter(({ cancelRequested }) => !cancelRequested) ?? [];
  const stored = new Set(points.map(({ payload }) => payload.imageId));
  const jobsByImage = Map.groupBy(
    live.filter(({ imageId }) => !stored.has(imageId)),
    ({ imageId }) => imageId,
  );
  const toCome = [...jobsByImage].map(([imageId, ofImage]): WireImage => {
    const hasFailed = ofImage.every(({ status }) => status === 'failed');
    const state = hasFailed ? 'failed' : 'pending';
    return { image_id: imageId, state, point_id: null, image_ref: null, payload: null };
  });
  const images = [...points.map(toWireImage), ...toCome];
  if (images.length === 0) {
    throw new VitrineError('product_not_found', 'The product has no image, and no job would bring one.');
  }
  return { product_id: productId, images, jobs: jobs === null ? null : live.map(toWireJob) };
}

export function toWireImage({ id, payload }: StoredImage): WireImage {
  return {
    image_id: payload.imageId,
    state: 'indexed',
    point_id: id,
    image_ref: payload.imageRef,
    payload: toWirePayload(payload),
  };
}

function toWireJob(job: JobView): NonNullable<WireProduct['jobs']>[number] {
  const { lastError: error } = job;
  return {
    job_id: job.id,
    image_id: job.imageId,
    status: job.status,
    stage: job.stage,
    enqueued_at: new Date(job.enqueuedAt).toISOString(),
    last_error: error && { code: error.code, message: error.message, suggestion: error.suggestion },
    status_url: `/queue/status/${job.id}`,
  };
}

export function toWirePage({ products, cursor }: ProductPage): z.input<typeof productPage> {
  return {
    products: products.map(({ productId, images }) => ({
      product_id: productId,
      images: images.map(toWireImage),
    })),
    next_cursor: cursor,
  };
}

export function toWireDuplicates({
  groups,
  images,
  totalGroups,
}: Duplicates): z.input<typeof duplicatesReply> {
  return {
    groups: groups.map((group) => ({
      kind: group.kind,
      images: group.images.map(({ productId, imageId, imageRef, contentHash, similarity }) => ({
        product_id: productId,
        image_id: imageId,
        image_ref: imageRef,
        content_hash: contentHash,
        similarity,
      })),
    })),
    total_groups: totalGroups,
    images,
  };
}
