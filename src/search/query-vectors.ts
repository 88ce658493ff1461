import type { Decoder } from '../../models/decoding/decoder.ts';
import type { Embedder, Region } from '../../models/embedder.ts';
import { TEXT_MODEL_IDS } from '../../models/registry.ts';
import { DEFAULT_IMAGE_ID, type ImageRef } from '../catalog/product-image.ts';
import { VitrineError } from '../errors/vitrine-error.ts';
import { createFetchLimits } from '../images/fetch-limits.ts';
import type { ImageSource } from '../images/port.ts';
import type { Clock } from '../observability/clock.ts';
import type { StoredPoint, VectorStore } from '../vectors/port.ts';

/**
 * Images that are fetched, or held until they can be decoded, and those of slow servers, which must not keep the quick ones
 * waiting.
 */
const MAX_FETCHING = 32;
const MAX_SLOW = 64;
const MAX_FETCHING_PER_HOST = 8;

export interface QueryParts {
  readonly embedder: Embedder;
  readonly images: Pick<ImageSource, 'fetch'>;
  readonly decoder: Pick<Decoder, 'prepare'>;
  readonly store: Pick<VectorStore, 'getProduct'>;
  readonly clock: Clock;
}

/** Turns what is searched with into a vector of the collection's space. */
export interface QueryVectors {
  /** @throws VitrineError with an `image_*` or `embedding_*` code */
  ofImage(image: ImageRef | Uint8Array, options: ImageOptions): Promise<Float32Array>;
  /** @throws VitrineError `product_not_found` when it has no point */
  ofProduct(productId: string): Promise<Float32Array>;
  /** @throws VitrineError `text_not_supported` */
  ofText(text: string): Promise<Float32Array>;
  /** Whether `ofText` works. */
  knowsText(): boolean;
}

export interface ImageOptions {
  readonly signal: AbortSignal;
  /** Only this part of the image. */
  readonly crop?: Region | undefined;
}

export function createQueryVectors(parts: QueryParts): QueryVectors {
  const { embedder, images, decoder, store, clock } = parts;
  const limits = createFetchLimits({
    count: MAX_FETCHING,
    maxSlow: MAX_SLOW,
    perHost: MAX_FETCHING_PER_HOST,
    clock,
  });

  async function embed(bytes: Uint8Array, { signal, crop }: ImageOptions): Promise<Float32Array> {
    const { preprocessing } = embedder.model;
    const wanted = crop === undefined ? preprocessing : { ...preprocessing, region: crop };
    const prepared = await decoder.prepare(bytes, wanted, { signal, isUrgent: true });
    return toOnly(await embedder.embedImages([prepared]));
  }

  return {
    async ofImage(image, options) {
      const { signal } = options;
      if (image instanceof Uint8Array) return embed(image, options);
      // Its place is kept until it is embedded, so that the bytes held in memory stay bounded.
      return limits.run(image, async () => {
        signal.throwIfAborted();
        return embed(await images.fetch(image, signal), options);
      });
    },
    async ofProduct(productId) {
      const points = await store.getProduct(productId);
      const main = points.find((point) => point.payload.imageId === DEFAULT_IMAGE_ID);
      const vector = main?.vector ?? toMean(points);
      if (vector === undefined) throw new VitrineError('product_not_found', 'The product has no image.');
      return vector;
    },
    async ofText(text) {
      if (!embedder.model.hasText) {
        throw new VitrineError('text_not_supported', `The model ${embedder.model.id} has no text encoder.`, {
          suggestion: `Search by words, image or product_id, or set MODEL to one of ${TEXT_MODEL_IDS.join(', ')}.`,
        });
      }
      return toOnly(await embedder.embedTexts([text]));
    },
    knowsText: () => embedder.model.hasText,
  };
}

function toOnly(vectors: readonly Float32Array[]): Float32Array {
  const vector = vectors[0];
  if (vector === undefined) throw new VitrineError('embedding_failed', 'The model returned no vector.');
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
