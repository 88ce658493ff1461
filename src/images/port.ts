import type { ImageRef } from '../catalog/product-image.ts';

/** Gets the encoded bytes of an image. */
export interface ImageSource extends AsyncDisposable {
  /**
   * @throws VitrineError with an `image_*` code; the table in src/domain/error-table.ts says which are worth a retry.
   */
  fetch(image: ImageRef, signal: AbortSignal): Promise<Uint8Array>;
}
