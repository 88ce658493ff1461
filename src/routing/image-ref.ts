import type { ImageRef } from '../catalog/product-image.ts';
import type { Config } from '../config/config.ts';
import { VitrineError } from '../errors/vitrine-error.ts';
import { invalidRequest } from './faults.ts';

interface ImageFields {
  readonly image_url?: string | undefined;
  readonly image_path?: string | undefined;
  readonly image_base64?: string | undefined;
}

export function hasImage(fields: ImageFields): boolean {
  return [fields.image_url, fields.image_path, fields.image_base64].some((field) => field !== undefined);
}

/**
 * Where the request's image is, of which its schema has seen to it that it names one.
 * @throws VitrineError `image_too_large`, `image_path_forbidden`, `invalid_request` for what isn't base64
 */
export function toImageRef(fields: ImageFields, config: Config): ImageRef {
  if (fields.image_url !== undefined) return { kind: 'url', url: fields.image_url };
  if (fields.image_path !== undefined) return toPathRef(fields.image_path, config.images.roots);
  if (fields.image_base64 !== undefined) return toInlineRef(fields.image_base64, config.images.maxBytes);
  throw invalidRequest([{ path: '', message: 'an image must be given' }]);
}

/** The file of a form. @throws VitrineError `image_too_large`, `invalid_request` when it is empty */
export async function toFileRef(file: File, config: Config): Promise<ImageRef> {
  if (file.size === 0) throw invalidRequest([{ path: 'image', message: 'must not be empty' }]);
  checkSize(file.size, config.images.maxBytes);
  return { kind: 'inline', base64: Buffer.from(await file.arrayBuffer()).toString('base64') };
}

/** Whether the file really is under a root, links resolved, is for the image source to see when it is read. */
function toPathRef(path: string, roots: readonly string[]): ImageRef {
  if (roots.length > 0) return { kind: 'path', path };
  throw new VitrineError('image_path_forbidden', 'No folder is open to image paths.', {
    suggestion: 'Name the folders of the images in IMAGE_ROOTS.',
  });
}

const DATA_URL = /^data:[^,]{0,200};base64,/i;
const BASE64 = /^[A-Za-z\d+/]+={0,2}$/;

function toInlineRef(text: string, maxBytes: number): ImageRef {
  const base64 = text.replace(DATA_URL, '');
  checkSize(Math.floor(base64.length * 0.75) - 2, maxBytes);
  if (!BASE64.test(base64) || base64.length % 4 === 1) {
    throw invalidRequest([{ path: 'image_base64', message: 'must be base64 or a base64 data: URL' }]);
  }
  return { kind: 'inline', base64 };
}

function checkSize(bytes: number, maxBytes: number): void {
  if (bytes <= maxBytes) return;
  throw new VitrineError(
    'image_too_large',
    `The image has more than the ${maxBytes} bytes that are allowed.`,
  );
}
