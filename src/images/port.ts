import type { ImageRef } from '../catalog/product-image.ts';

/** Gets the encoded bytes of an image. */
export interface ImageSource extends AsyncDisposable {
  /** @throws VitrineError with an `image_*` code, or the signal's reason when it is aborted */
  fetch(image: ImageRef, signal: AbortSignal): Promise<Uint8Array>;
}
