import pLimit from 'p-limit';
import { prepareImage } from '../../models/prepare-image.ts';
import { TEXT_MODEL_IDS } from '../../models/registry.ts';
import { DEFAULT_IMAGE_ID, type ImageRef } from '../catalog/product-image.ts';
import type { Context } from '../context.ts';
import { VitrineError } from '../errors/vitrine-error.ts';
import type { StoredPoint } from '../vectors/port.ts';

/** Images of queries that are held and decoded at once; further queries wait, so that memory stays bounded. */
const MAX_QUERY_IMAGES = 4;

/** Turns what is searched with into a vector of the collection's space. */
export interface QueryVectors {
  /** @throws VitrineError with an `image_*` or `embedding_*` code */
  ofImage(image: ImageRef, signal: AbortSignal): Promise<Float32Array>;
  /** @throws VitrineError `product_not_found` when it has no point */
  ofProduct(productId: string): Promise<Float32Array>;
  /** @throws VitrineError `text_not_supported` */
  ofText(text: string): Promise<Float32Array>;
}

export function createQueryVectors({ config, embedder, images, store }: Context): QueryVectors {
  const limit = pLimit(MAX_QUERY_IMAGES);
  return {
    ofImage: (image, signal) =>
      limit(async () => {
        signal.throwIfAborted();
        const bytes = await images.fetch(image, signal);
        const prepared = await prepareImage(bytes, embedder.model.preprocessing, {
          maxPixels: config.images.maxPixels,
        });
        return toOnly(await embedder.embedImages([prepared]));
      }),
    async ofProduct(productId) {
      const points = await store.getProduct(productId);
      const main = points.find((point) => point.payload.imageId === DEFAULT_IMAGE_ID);
      if (main !== undefined) return main.vector;
      return (
        toMean(points) ?? Promise.reject(new VitrineError('product_not_found', 'The product has no image.'))
      );
    },
    async ofText(text) {
      if (!embedder.model.hasText) {
        throw new VitrineError('text_not_supported', `The model ${embedder.model.id} knows no words.`, {
          suggestion: `Search by image or product_id, or set MODEL to one of ${TEXT_MODEL_IDS.join(', ')}.`,
        });
      }
      return toOnly(await embedder.embedTexts([text]));
    },
  };
}

function toOnly(vectors: readonly Float32Array[]): Float32Array {
  const vector = vectors[0];
  if (vector === undefined) throw new VitrineError('embedding_failed', 'The model gave no vector.');
  return vector;
}

/** The normalised mean of the vectors: the direction that all pictures of the product have in common. */
function toMean(points: readonly StoredPoint[]): Float32Array | undefined {
  const first = points[0];
  if (first === undefined) return undefined;
  const sum = new Float32Array(first.vector.length);
  for (const { vector } of points)
    for (const [index, value] of vector.entries()) sum[index] = (sum[index] ?? 0) + value;
  const length = Math.hypot(...sum);
  // Opposite pictures cancel each other out; then any of them says more than nothing.
  return length === 0 ? first.vector : sum.map((value) => value / length);
}
