import { readFile, realpath } from 'node:fs/promises';
import { sep } from 'node:path';
import type { FeedImage } from '../../catalog/feed.ts';
import type { ProductImage } from '../../catalog/product-image.ts';
import { toImageFormat } from '../../images/image-format.ts';
import type { EndedJob } from './follow-jobs.ts';

/** A catalog's entry as the API takes it. */
export interface PendingJob {
  readonly where: string;
  readonly body: object;
  /** Of its inline image in base64; 0 for a URL or a path. */
  readonly inlineBytes: number;
}

export interface FileAccess {
  /** Files are read only here and in `sharedFolders`: a catalog from elsewhere must not name a private key. */
  readonly catalogFolder: string;
  /** Folders whose files the workers read by path; files elsewhere are sent as their bytes. */
  readonly sharedFolders: readonly string[];
}

/** The job of an entry with the bytes of its file, or why there is none. */
export async function readJob(
  { where, image }: FeedImage,
  access: FileAccess,
): Promise<PendingJob | EndedJob> {
  const source = image.image;
  if (source.kind === 'url') return { where, body: toBody(image, { image_url: source.url }), inlineBytes: 0 };
  if (source.kind === 'inline') return toInlineJob(where, image, source.base64);
  if (access.sharedFolders.some((folder) => isWithin(folder, source.path)))
    return { where, body: toBody(image, { image_path: source.path }), inlineBytes: 0 };
  const file = await readOwnFile(source.path, access.catalogFolder);
  return 'code' in file ? { where, ...file } : toInlineJob(where, image, file.base64);
}

type Refusal = Omit<EndedJob, 'where'>;

async function readOwnFile(path: string, folder: string): Promise<{ readonly base64: string } | Refusal> {
  const real = await realpath(path).catch(() => null);
  if (real === null) {
    return {
      code: 'image_not_found',
      detail: `There is nothing at ${path}.`,
      suggestion: 'Check the path in the catalog; a relative one begins in its folder.',
    };
  }
  if (!isWithin(await realpath(folder), real)) {
    return {
      code: 'image_path_forbidden',
      detail: `${path} is outside of the catalog's folder.`,
      suggestion: 'Name the folder of the images in IMAGE_ROOTS.',
    };
  }
  const bytes = await readFile(real).catch(() => null);
  if (bytes !== null && toImageFormat(bytes) !== null) return { base64: bytes.toString('base64') };
  return bytes === null
    ? { code: 'image_not_found', detail: `${path} can't be read.`, suggestion: 'Make the file readable.' }
    : {
        code: 'image_unsupported',
        detail: `${path} is not a JPEG, PNG, WebP, AVIF, GIF or TIFF image.`,
        suggestion: 'Send JPEG, PNG, WebP, AVIF, GIF or TIFF.',
      };
}

const isWithin = (folder: string, path: string): boolean =>
  path.startsWith(folder.endsWith(sep) ? folder : folder + sep);

function toInlineJob(where: string, image: ProductImage, base64: string): PendingJob {
  return { where, body: toBody(image, { image_base64: base64 }), inlineBytes: base64.length };
}

function toBody({ productId, imageId, product }: ProductImage, image: object): object {
  return { product_id: productId, image_id: imageId, ...product, ...image };
}
