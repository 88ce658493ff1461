import { VitrineError } from '../errors/vitrine-error.ts';
import { createAddressGuard } from './address-guard.ts';
import { createImageRoots } from './file-image.ts';
import { createHttpImages } from './http-image.ts';
import { looksLikeMarkup, toImageFormat } from './image-format.ts';
import { decodeInlineImage } from './inline-image.ts';
import type { ImageSource } from './port.ts';

export interface ImageSourceSettings {
  /** Folders from which `path` images may be read. */
  readonly roots: readonly string[];
  /** `host`, `host:port` or a network like `10.0.0.0/8`: may be fetched from although its addresses are private. */
  readonly allowHosts: readonly string[];
  /** For one image, redirects and body included. */
  readonly timeoutMs: number;
  readonly maxBytes: number;
  /** Connections to one host at once. */
  readonly connectionsPerHost: number;
}

/** Images by URL, by path and inline. What it returns begins like a supported image; it may still be damaged. */
export function createImageSource(settings: ImageSourceSettings): ImageSource {
  const { maxBytes } = settings;
  const roots = createImageRoots(settings.roots, maxBytes);
  const http = createHttpImages({ ...settings, guard: createAddressGuard(settings.allowHosts) });

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
