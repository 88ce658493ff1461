import sharp, { type Metadata, type Sharp } from 'sharp';
import { VitrineError } from '../src/errors/vitrine-error.ts';
import { toImageFormat } from '../src/images/image-format.ts';
import type { PreparedImage, Preprocessing, Region } from './embedder.ts';
import { enlarge, type Raster } from './enlarge.ts';

// Many small images are processed at the same time: one thread per image keeps all processors busy, and libvips need
// not split every image into strips.
sharp.concurrency(1);
// No operation is repeated on the same input, so the cache of operations would only use memory.
sharp.cache(false);

/**
 * Formats that can't be decoded line by line need memory for the whole image, so they may have only this share of the
 * pixels. Measured peak of an image of 24 million pixels, in bytes per pixel: JPEG 0.2, PNG 1.1, progressive JPEG 3.2
 * (6 without chroma subsampling: 2 bytes per coefficient), rotated JPEG 3.6, interlaced PNG 3.7, WebP 8.3, AVIF 18.7;
 * GIF (6 million) 6.3. So no image takes much more than 200 MB at the default of 50 million pixels.
 */
const PIXEL_SHARES: Readonly<Record<string, number>> = { interlaced: 0.5, webp: 0.5, gif: 0.5, heif: 0.2 };

export interface PrepareOptions {
  /** Width times height, read from the header before anything is decoded. */
  readonly maxPixels: number;
  /** Time limit for decoding and resizing; rounded up to seconds. */
  readonly timeoutMs?: number;
}

/**
 * The first frame of an encoded image as the pixels that a model wants: upright, sRGB, on white, antialiased.
 * @throws VitrineError `image_unsupported`, `image_corrupt`, `image_too_many_pixels`, `job_timed_out`
 */
export async function prepareImage(
  bytes: Uint8Array,
  preprocessing: Preprocessing,
  options: PrepareOptions,
): Promise<PreparedImage> {
  // libvips would also decode SVG and everything else it was built with.
  if (toImageFormat(bytes) === null) {
    throw new VitrineError(
      'image_unsupported',
      'The bytes are not a JPEG, PNG, WebP, AVIF, GIF or TIFF image.',
    );
  }
  try {
    const image = sharp(bytes, { autoOrient: true, failOn: 'error', limitInputPixels: options.maxPixels });
    const upright = toUprightSize(await image.metadata(), options.maxPixels);
    const seconds = Math.ceil((options.timeoutMs ?? 0) / 1000);
    const pixels = await toFit(
      image.timeout({ seconds }).flatten({ background: WHITE }),
      upright,
      preprocessing,
    );
    return { pixels, size: preprocessing.size };
  } catch (error) {
    throw toImageError(error);
  }
}

const WHITE = { r: 255, g: 255, b: 255 };

interface Size {
  readonly width: number;
  readonly height: number;
}

/** Width and height as a viewer shows them. @throws VitrineError `image_too_many_pixels` */
function toUprightSize({ format, isProgressive, autoOrient: upright }: Metadata, maxPixels: number): Size {
  const pixels = upright.width * upright.height;
  const limit = maxPixels * (PIXEL_SHARES[isProgressive ? 'interlaced' : format] ?? 1);
  if (pixels > limit) {
    const name = (format === 'heif' ? 'avif' : format).toUpperCase();
    const kind = isProgressive ? `a progressive or interlaced ${name}` : `a ${name}`;
    throw new VitrineError(
      'image_too_many_pixels',
      `The image has ${upright.width} × ${upright.height} pixels; ${kind} may have ${Math.floor(limit)} in all.`,
    );
  }
  return upright;
}

/** The image resized, then cut or padded to the square. */
async function toFit(
  whole: Sharp,
  wholeSize: Size,
  { size, fit, cropFrom, kernel, region }: Preprocessing,
): Promise<Uint8Array> {
  const box = toBox(wholeSize, region);
  const image = region === undefined ? whole : whole.extract(box);
  const source: Size = box;
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
  return toSquare({ pixels, width: window.width, height: window.height }, size);
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
  if (message.startsWith('timeout')) {
    return new VitrineError('job_timed_out', 'Decoding the image took too long.', { cause: error });
  }
  return new VitrineError('image_corrupt', 'The image is damaged or cut off and could not be decoded.', {
    cause: error,
  });
}
