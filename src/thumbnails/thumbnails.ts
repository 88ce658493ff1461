import { availableParallelism } from 'node:os';
import pLimit from 'p-limit';
import type { Decoder } from '../../models/decoding/decoder.ts';
import { type ImageRef, toImageHost, toPointId } from '../catalog/product-image.ts';
import { toVitrineError, VitrineError } from '../errors/vitrine-error.ts';
import { createFetchLimits } from '../images/fetch-limits.ts';
import type { ImageSource } from '../images/port.ts';
import type { Clock } from '../observability/clock.ts';
import type { PointPayload, VectorStore } from '../vectors/port.ts';
import type { Pictured, ThumbnailCache } from './cache.ts';
import { createFailures } from './failures.ts';
import { createShared } from './shared.ts';

/** Few: the pictures of a page come soon enough, and searches have the rest of the machine. */
const MAX_FETCHING = 16;
const MAX_SLOW = 32;
const MAX_FETCHING_PER_HOST = 8;

export interface ThumbnailParts {
  readonly images: Pick<ImageSource, 'fetch'>;
  readonly decoder: Pick<Decoder, 'drawThumbnail'>;
  readonly store: Pick<VectorStore, 'getPayloads'>;
  readonly thumbnails: ThumbnailCache;
  readonly clock: Clock;
}

/** Small pictures of indexed images, from the cache or made on demand. */
export interface Thumbnails {
  /** The indexed image. @throws VitrineError `product_not_found` */
  find(productId: string, imageId: string): Promise<Pictured>;
  /**
   * A JPEG. Callers that ask for the same one at the same time share the work, which ends when all of them have gone.
   * @throws VitrineError `thumbnail_not_found` for an image without a source, an `image_*` code when the source fails
   */
  get(image: Pictured, signal: AbortSignal): Promise<Uint8Array>;
}

export function createThumbnails(parts: ThumbnailParts): Thumbnails {
  const { images, decoder, store, thumbnails: cache, clock } = parts;
  const limits = createFetchLimits({
    count: MAX_FETCHING,
    maxSlow: MAX_SLOW,
    perHost: MAX_FETCHING_PER_HOST,
    clock,
  });
  const drawing = pLimit(Math.max(1, Math.floor(availableParallelism() / 2)));
  const failures = createFailures(clock);
  const shared = createShared<Uint8Array>();

  async function readPayload(productId: string, imageId: string): Promise<PointPayload | null> {
    const [payload = null] = await store.getPayloads([toPointId(productId, imageId)]);
    return payload;
  }

  async function fetchAndDraw(key: string, source: ImageRef, signal: AbortSignal): Promise<Uint8Array> {
    const host = toImageHost(source);
    failures.throwKnown(key, host);
    // Its place is kept until it is drawn, so that the bytes held in memory stay bounded.
    return limits.run(source, async () => {
      signal.throwIfAborted();
      // While it waited for its place, others of the same host may have failed.
      failures.throwKnown(key, host);
      try {
        const bytes = await images.fetch(source, signal);
        failures.succeed(host);
        return await drawing(() => decoder.drawThumbnail(bytes, { signal }));
      } catch (error) {
        signal.throwIfAborted();
        const failure = toVitrineError(error, 'image_fetch_failed');
        failures.add(key, host, failure);
        throw failure;
      }
    });
  }

  async function make(
    key: string,
    image: Pictured,
    source: ImageRef,
    signal: AbortSignal,
  ): Promise<Uint8Array> {
    const thumbnail = await fetchAndDraw(key, source, signal);
    await cache.write(image, thumbnail);
    // Written first: a deletion, or a new version, either finds the file or is seen here.
    const now = await readPayload(image.productId, image.imageId);
    if (now?.contentHash === image.contentHash) await cache.removeOthers(image);
    else await cache.remove(image);
    return thumbnail;
  }

  return {
    async find(productId, imageId) {
      const payload = await readPayload(productId, imageId);
      if (payload !== null) return payload;
      throw new VitrineError('product_not_found', 'No such image of the product is indexed.');
    },
    async get(image, signal) {
      const kept = await cache.read(image);
      if (kept !== null) return kept;
      const source = toSource(image.imageRef);
      if (source === null) {
        throw new VitrineError('thumbnail_not_found', 'The bytes of the image came with its job.');
      }
      const key = JSON.stringify([image.productId, image.imageId, image.contentHash, image.imageRef]);
      return shared.run(key, signal, (all) => make(key, image, source, all));
    },
  };
}

/** A path that begins like a URL is one: the store keeps no more than the text. */
function toSource(imageRef: string | null): ImageRef | null {
  if (imageRef === null) return null;
  return /^https?:\/\//i.test(imageRef) ? { kind: 'url', url: imageRef } : { kind: 'path', path: imageRef };
}
