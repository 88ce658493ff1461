import sharp, { type Sharp } from 'sharp';
import { VitrineError } from '../src/errors/vitrine-error.ts';
import {
  type CheckedImage,
  checkFile,
  checkHeader,
  type ImageLimits,
  isBlank,
} from './decoding/image-checks.ts';
import type { PreparedImage, Preprocessing, Region } from './embedder.ts';
import { enlarge, type Raster } from './enlarge.ts';

// Many small images are processed at the same time: one thread per image keeps all processors busy, and libvips need
// not split every image into strips.
sharp.concurrency(1);
// No operation is repeated on the same input, so the cache of operations would only use memory.
sharp.cache(false);
// libvips would also decode SVG and everything else it was built with. A name stands for all loaders of its format.
sharp.block({ operation: ['VipsForeignLoad'] });
sharp.unblock({
  operation: ['Jpeg', 'Png', 'Webp', 'Heif', 'Nsgif', 'Tiff'].map((format) => `VipsForeignLoad${format}`),
});

/** An image whose header is read and checked, and whose pixels are not decoded yet. */
export interface OpenedImage extends CheckedImage {
  /** What decodes it, on white. A new one each time: sharp's methods change the object that they are called on. */
  toSharp(): Sharp;
}

/**
 * The first frame of an encoded image as the pixels that a model wants: upright, sRGB, on white, antialiased. Nothing
 * limits its time: bytes from strangers go to a decoder, which runs this in a process that can be killed.
 * @throws VitrineError an error of `openImage` or `decodeImage`
 */
export async function prepareImage(
  bytes: Uint8Array,
  preprocessing: Preprocessing,
  limits: ImageLimits,
): Promise<PreparedImage> {
  return decodeImage(await openImage(bytes, limits), preprocessing);
}

/**
 * @throws VitrineError `image_unsupported`, `image_corrupt`, `image_too_complex`, `image_too_small`,
 *   `image_aspect_ratio`, `image_too_many_pixels`
 */
export async function openImage(bytes: Uint8Array, limits: ImageLimits): Promise<OpenedImage> {
  const file = checkFile(bytes);
  try {
    const options = { autoOrient: true, failOn: 'error', limitInputPixels: limits.maxPixels } as const;
    const checked = checkHeader(await sharp(file.bytes, options).metadata(), file, limits);
    return { ...checked, toSharp: () => sharp(file.bytes, options).flatten({ background: WHITE }) };
  } catch (error) {
    throw toImageError(error);
  }
}

/** @throws VitrineError `image_corrupt` */
export async function decodeImage(
  { toSharp, width, height }: OpenedImage,
  preprocessing: Preprocessing,
): Promise<PreparedImage & { readonly isBlank: boolean }> {
  try {
    const raster = await toFit(toSharp(), { width, height }, preprocessing);
    const { size } = preprocessing;
    return { pixels: toSquare(raster, size), size, isBlank: isBlank(raster.pixels) };
  } catch (error) {
    throw toImageError(error);
  }
}

/** The longest side of a thumbnail; a smaller image keeps its size. */
const THUMBNAIL_PIXELS = 320;
/** Not WebP: at its cheapest effort it saves an eighth of the bytes, and takes four times as long (decision 0018). */
const THUMBNAIL_JPEG = { quality: 80, optimiseCoding: false };

/**
 * A small JPEG for people to look at: upright, sRGB, on white, without metadata.
 * @throws VitrineError `image_corrupt`
 */
export async function drawThumbnail({ toSharp }: OpenedImage): Promise<Uint8Array> {
  const size = { width: THUMBNAIL_PIXELS, height: THUMBNAIL_PIXELS };
  try {
    return await toSharp()
      .resize({ ...size, fit: 'inside', withoutEnlargement: true })
      .toColourspace('srgb')
      .jpeg(THUMBNAIL_JPEG)
      .toBuffer();
  } catch (error) {
    throw toImageError(error);
  }
}

const WHITE = { r: 255, g: 255, b: 255 };

interface Size {
  readonly width: number;
  readonly height: number;
}

/** The image resized, and cut where it is larger than the square. */
async function toFit(
  whole: Sharp,
  wholeSize: Size,
  { size, fit, cropFrom, kernel, region }: Preprocessing,
): Promise<Raster> {
  const source = toBox(wholeSize, region);
  const image = region === undefined ? whole : whole.extract(source);
  const target = toTarget(source, size, fit, cropFrom);
  // The centre of an image that is larger than the square.
  const window = {
    left: Math.floor(Math.max(0, target.width - size) / 2),
    top: Math.floor(Math.max(0, target.height - size) / 2),
    width: Math.min(target.width, size),
    height: Math.min(target.height, size),
  };
  const shrunk = {
    width: Math.min(source.width, target.width),
    height: Math.min(source.height, target.height),
  };
  // Shrinking on load decodes JPEGs too small and WebPs with another kernel: ten times the difference to Pillow.
  const resized = image.resize({ ...shrunk, fit: 'fill', kernel, fastShrinkOnLoad: false });
  const isEnlarged = shrunk.width < target.width || shrunk.height < target.height;
  const pixels = isEnlarged
    ? enlarge(
        { pixels: await toPixels(resized, shrunk), ...shrunk },
        target.width,
        target.height,
        window,
        kernel,
      )
    : await toPixels(resized.extract(window), window);
  return { pixels, width: window.width, height: window.height };
}

/** The region in pixels, at least one. */
function toBox({ width, height }: Size, { x, y, width: across, height: down }: Region = WHOLE) {
  const left = Math.min(Math.round(x * width), width - 1);
  const top = Math.min(Math.round(y * height), height - 1);
  const right = Math.max(left + 1, Math.min(Math.round((x + across) * width), width));
  const bottom = Math.max(top + 1, Math.min(Math.round((y + down) * height), height));
  return { left, top, width: right - left, height: bottom - top };
}

const WHOLE: Region = { x: 0, y: 0, width: 1, height: 1 };

/** The size that the whole image is resized to. */
function toTarget({ width, height }: Size, size: number, fit: Preprocessing['fit'], cropFrom: number): Size {
  if (fit === 'stretch') return { width: size, height: size };
  if (fit === 'pad') {
    const scale = size / Math.max(width, height);
    return { width: Math.max(1, Math.round(width * scale)), height: Math.max(1, Math.round(height * scale)) };
  }
  // The longer side is rounded down: transformers' get_resize_output_image_size.
  const shorter = Math.min(width, height);
  const toLength = (side: number) => Math.floor((cropFrom * side) / shorter);
  return { width: toLength(width), height: toLength(height) };
}

async function toPixels(image: Sharp, expected: Size): Promise<Uint8Array> {
  const { data, info } = await image
    .toColourspace('srgb')
    .raw({ depth: 'uchar' })
    .toBuffer({ resolveWithObject: true });
  if (info.width !== expected.width || info.height !== expected.height || info.channels !== 3) {
    throw new Error(`Resizing returned ${info.width} × ${info.height} × ${info.channels}.`);
  }
  return data;
}

/** The image in the middle of a white square. */
function toSquare({ pixels, width, height }: Raster, size: number): Uint8Array {
  if (width === size && height === size) return pixels;
  const square = new Uint8Array(size * size * 3).fill(255);
  const left = Math.floor((size - width) / 2);
  const top = Math.floor((size - height) / 2);
  for (let row = 0; row < height; row++) {
    square.set(pixels.subarray(row * width * 3, (row + 1) * width * 3), ((top + row) * size + left) * 3);
  }
  return square;
}

/** libvips has no error codes, only messages. */
function toImageError(error: unknown): VitrineError {
  if (error instanceof VitrineError) return error;
  const message = error instanceof Error ? error.message : '';
  if (message.includes('exceeds pixel limit')) {
    return new VitrineError('image_too_many_pixels', 'The image has too many pixels.', { cause: error });
  }
  return new VitrineError('image_corrupt', 'The image is damaged or cut off and could not be decoded.', {
    cause: error,
  });
}
