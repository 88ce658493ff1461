import { isDataUrl, toBase64OfDataUrl } from '../catalog/data-url.ts';
import type { ImageRef } from '../catalog/product-image.ts';
import type { Config } from '../config/config.ts';
import { VitrineError } from '../errors/vitrine-error.ts';
import { invalidRequest } from './faults.ts';

/** The fields of a request that name its image. */
export interface ImageFields {
  readonly image_url?: string | undefined;
  readonly image_path?: string | undefined;
  readonly image_base64?: string | undefined;
}

export type ImageLimits = Pick<Config['images'], 'maxBytes' | 'roots'>;

/**
 * Where the request's image is; undefined when it names none.
 * @throws VitrineError `image_too_large`, `image_path_forbidden`, `invalid_request` for what isn't base64
 */
export function parseImageRef(fields: ImageFields, { maxBytes, roots }: ImageLimits): ImageRef | undefined {
  if (fields.image_url !== undefined) return parseUrl(fields.image_url, maxBytes);
  if (fields.image_path !== undefined) return parsePath(fields.image_path, roots);
  if (fields.image_base64 === undefined) return undefined;
  const base64 = toBase64OfDataUrl(fields.image_base64) ?? fields.image_base64;
  return { kind: 'inline', base64: parseBase64(base64, 'image_base64', maxBytes) };
}

function parseUrl(url: string, maxBytes: number): ImageRef {
  if (!isDataUrl(url)) return { kind: 'url', url };
  // Not base64 fails as text that isn't: with the same sentence.
  const base64 = toBase64OfDataUrl(url) ?? '';
  return { kind: 'inline', base64: parseBase64(base64, 'image_url', maxBytes) };
}

/** The bytes of a form's file. @throws VitrineError `image_too_large`, `invalid_request` when it is empty */
export function parseFile(file: Uint8Array, { maxBytes }: ImageLimits): Uint8Array {
  if (file.length === 0) throw invalidRequest([{ path: 'image', message: 'must not be empty' }]);
  checkSize(file.length, maxBytes);
  return file;
}

/** The image source checks, when it reads the file, that it really is under a root with all links resolved. */
function parsePath(path: string, roots: readonly string[]): ImageRef {
  if (roots.length > 0) return { kind: 'path', path };
  throw new VitrineError('image_path_forbidden', 'No folder is open to image paths.', {
    suggestion: 'Name the folders of the images in IMAGE_ROOTS.',
  });
}

/** Base64 as RFC 4648 has it, with padding, from a text that may come without. */
function parseBase64(text: string, path: keyof ImageFields, maxBytes: number): string {
  const padding = text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0;
  const digits = padding === 0 ? text : text.slice(0, -padding);
  const byteLength = Math.floor((digits.length * 3) / 4);
  checkSize(byteLength, maxBytes);
  // Decoding is the fastest check of a long text: Node skips what isn't base64, and then bytes are missing. It takes
  // the URL-safe alphabet too, which workers don't.
  const isBase64 =
    byteLength > 0 &&
    digits.length % 4 !== 1 &&
    (padding === 0 || text.length % 4 === 0) &&
    !digits.includes('-') &&
    !digits.includes('_') &&
    Buffer.from(digits, 'base64').length === byteLength;
  if (!isBase64) {
    const message = `must be ${path === 'image_url' ? 'an http or https URL' : 'base64'} or a base64 data: URL`;
    throw invalidRequest([{ path, message }]);
  }
  const whole = digits.length - (digits.length % 4);
  return digits.slice(0, whole) + Buffer.from(digits.slice(whole), 'base64').toString('base64');
}

function checkSize(bytes: number, maxBytes: number): void {
  if (bytes <= maxBytes) return;
  throw new VitrineError('image_too_large', `The image has more than the allowed ${maxBytes} bytes.`);
}
