import { VitrineError } from '../errors/vitrine-error.ts';
import { createImageRoots } from './file-image.ts';
import { createHttpImages, type HttpSettings } from './http-image.ts';
import { looksLikeMarkup, toImageFormat } from './image-format.ts';
import { decodeInlineImage } from './inline-image.ts';
import type { ImageSource } from './port.ts';

export interface ImageSourceSettings extends HttpSettings {
  /** Folders from which `path` images may be read. */
  readonly roots: readonly string[];
}

/** Images by URL, by path and inline. What it returns begins like a supported image; it may still be damaged. */
export function createImageSource(settings: ImageSourceSettings): ImageSource {
  const { maxBytes } = settings;
  const roots = createImageRoots(settings.roots, maxBytes);
  const http = createHttpImages(settings);

  return {
    async fetch(image, signal) {
      signal.throwIfAborted();
      const bytes =
        image.kind === 'url'
          ? await http.fetch(image.url, signal)
          : image.kind === 'path'
            ? await roots.read(image.path, signal)
            : decodeInlineImage(image.base64, maxBytes);
      assertImage(bytes);
      return bytes;
    },
    [Symbol.asyncDispose]: () => http[Symbol.asyncDispose](),
  };
}

function assertImage(bytes: Uint8Array): void {
  if (bytes.byteLength === 0) throw new VitrineError('image_corrupt', 'The image is empty.');
  if (toImageFormat(bytes) !== null) return;
  throw new VitrineError(
    'image_unsupported',
    looksLikeMarkup(bytes)
      ? 'There is a web page or an SVG drawing where the image should be.'
      : 'The bytes are not those of a JPEG, PNG, WebP, AVIF, GIF or TIFF image.',
  );
}
