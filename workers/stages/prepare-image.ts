import sharp, { type Metadata, type Sharp } from 'sharp';
import { VitrineError } from '../../src/domain/errors.ts';
import { toImageFormat } from '../../src/domain/image-format.ts';
import type { PreparedImage, Preprocessing } from '../../src/ports/embedder.ts';

// Many small images are in flight at once: one thread for each keeps all processors busy without libvips
// splitting every image into strips for threads that have work of their own.
sharp.concurrency(1);
// No operation is ever repeated on the same input, so the operation cache would only hold memory.
sharp.cache(false);

/**
 * Progressive JPEGs, interlaced PNGs, WebP and AVIF can't be decoded line by line: the whole picture (or all of
 * its coefficients) stands in memory, about ten times as much. They may have this share of the pixels.
 */
const WHOLE_PICTURE_SHARE = 0.5;

/** No side of an intermediate image gets longer, whatever the aspect ratio. */
const MAX_SIDE = 65_535;

export interface PrepareOptions {
  /** Width times height, read from the header before anything is decoded. */
  readonly maxPixels: number;
  /** Time that decoding and resizing may take; rounded up to seconds. */
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
  // libvips would also take SVG and whatever else it was built with.
  if (toImageFormat(bytes) === null) {
    throw new VitrineError(
      'image_unsupported',
      'The bytes are not those of a JPEG, PNG, WebP, AVIF, GIF or TIFF image.',
    );
  }
  const { size } = preprocessing;
  try {
    const image = sharp(bytes, { autoOrient: true, failOn: 'error', limitInputPixels: options.maxPixels });
    const source = toUprightSize(await image.metadata(), options.maxPixels);
    const { data, info } = await resize(
      image.timeout({ seconds: Math.ceil((options.timeoutMs ?? 0) / 1000) }).flatten({ background: WHITE }),
      source,
      preprocessing,
    )
      .toColourspace('srgb')
      .raw({ depth: 'uchar' })
      .toBuffer({ resolveWithObject: true });
    if (info.width !== size || info.height !== size || info.channels !== 3) {
      throw new Error(`Resizing gave ${info.width}×${info.height}×${info.channels}.`);
    }
    return { pixels: data, size };
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
  const needsWhole = isProgressive || format === 'webp' || format === 'heif';
  const limit = needsWhole ? maxPixels * WHOLE_PICTURE_SHARE : maxPixels;
  if (pixels > limit) {
    const kind = isProgressive ? `a progressive or interlaced ${format}` : `a ${format}`;
    throw new VitrineError(
      'image_too_many_pixels',
      `The image has ${upright.width} × ${upright.height} pixels; ${kind} may have ${Math.floor(limit)} in all.`,
    );
  }
  return upright;
}

function resize(image: Sharp, source: Size, { size, fit, cropFrom, kernel }: Preprocessing): Sharp {
  if (fit === 'stretch') return image.resize(size, size, { fit: 'fill', kernel });
  if (fit === 'pad') return image.resize(size, size, { fit: 'contain', background: WHITE, kernel });
  // As transformers' get_resize_output_image_size and center_crop do it: the longer side is rounded down, and
  // so is half of what is cut off.
  const scale = cropFrom / Math.min(source.width, source.height);
  const width = Math.min(Math.max(Math.floor(source.width * scale), cropFrom), MAX_SIDE);
  const height = Math.min(Math.max(Math.floor(source.height * scale), cropFrom), MAX_SIDE);
  return image.resize(width, height, { fit: 'fill', kernel }).extract({
    left: Math.floor((width - size) / 2),
    top: Math.floor((height - size) / 2),
    width: size,
    height: size,
  });
}

/** libvips tells its failures apart by words alone. */
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
