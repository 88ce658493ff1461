import type { ImageRef } from '../../src/catalog/product-image.ts';
import { toVitrineError } from '../../src/errors/vitrine-error.ts';
import type { ImageSource } from '../../src/images/port.ts';

/**
 * The encoded bytes of a job's image.
 * @throws VitrineError with an `image_*` code, or the signal's reason when it aborts
 */
export async function fetchImage(
  source: ImageSource,
  image: ImageRef,
  signal: AbortSignal,
): Promise<Uint8Array> {
  try {
    return await source.fetch(image, signal);
  } catch (error) {
    signal.throwIfAborted();
    throw toVitrineError(error, 'image_fetch_failed');
  }
}
