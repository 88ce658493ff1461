import type { Metadata } from 'sharp';
import { VitrineError } from '../../src/errors/vitrine-error.ts';
import { type ImageFormat, toImageFormat } from '../../src/images/image-format.ts';
import {
  countGifFrames,
  countTiffPages,
  countWebpFrames,
  type JpegHeader,
  readJpegHeader,
  toEssentialPng,
} from './containers.ts';

/** The longer side of an image may be so many times the shorter one. */
export const MAX_ASPECT_RATIO = 50;
/** Progressive files have about ten; each scan is a pass over the whole image. */
const MAX_SCANS = 50;
/** A scan of a huge image takes as long as many of a small one. */
const MAX_SCANNED_PIXELS = 500_000_000;
/** Only the first frame is shown, but libvips reads the headers of all. */
const MAX_FRAMES = 5_000;
/** libtiff reads the directories before a page again for each page. */
const MAX_PAGES = 200;
/** The largest profiles of printers have 3 MB. */
const MAX_PROFILE_BYTES = 4_000_000;
/** What may stand in memory while an image is decoded, however few pixels are allowed. */
const LEAST_BUDGET_BYTES = 140_000_000;
/** The same for each pixel of a higher limit. */
const BUDGET_PER_PIXEL = 2.8;
/** Images that take no more are decoded many at a time in one process. */
export const ORDINARY_BYTES = 40_000_000;
/** No format takes more than a third of a second for so many. */
const ORDINARY_PIXELS = 16_000_000;
const ORDINARY_SCANS = 20;

export interface ImageLimits {
  /** Width times height. Kinds that take much memory may have fewer. */
  readonly maxPixels: number;
  /** Of both sides. */
  readonly minSidePixels: number;
}

/** A file that may be opened: its container asks for no more than it should. */
export interface CheckedFile {
  /** What to decode. */
  readonly bytes: Uint8Array;
  readonly format: ImageFormat;
  /** Null for other formats. */
  readonly jpeg: JpegHeader | null;
}

/**
 * The checks before libvips sees a byte.
 * @throws VitrineError `image_unsupported`, `image_too_complex`
 */
export function checkFile(bytes: Uint8Array): CheckedFile {
  const format = toImageFormat(bytes);
  switch (format) {
    case null:
      throw new VitrineError(
        'image_unsupported',
        'The bytes are not a JPEG, PNG, WebP, AVIF, GIF or TIFF image.',
      );
    case 'jpeg': {
      const jpeg = readJpegHeader(bytes);
      limitCount(jpeg.scans, MAX_SCANS, 'scans');
      return { bytes, format, jpeg };
    }
    case 'png':
      return { bytes: toEssentialPng(bytes), format, jpeg: null };
    case 'gif':
      limitCount(countGifFrames(bytes, MAX_FRAMES), MAX_FRAMES, 'frames');
      break;
    case 'webp':
      limitCount(countWebpFrames(bytes, MAX_FRAMES), MAX_FRAMES, 'frames');
      break;
    case 'tiff':
      limitCount(countTiffPages(bytes, MAX_PAGES), MAX_PAGES, 'pages');
      break;
    case 'avif':
      break;
  }
  return { bytes, format, jpeg: null };
}

/** What the header says about an image. */
export interface CheckedImage {
  /** As a viewer shows it. */
  readonly width: number;
  readonly height: number;
  /** False when decoding it may take much time or memory: it should then run by itself. */
  readonly isOrdinary: boolean;
}

/**
 * The checks of the opened file, before its pixels are decoded.
 * @throws VitrineError `image_unsupported`, `image_too_small`, `image_aspect_ratio`, `image_too_many_pixels`,
 *   `image_too_complex`
 */
export function checkHeader(metadata: Metadata, file: CheckedFile, limits: ImageLimits): CheckedImage {
  // A file may look like two formats. What was checked must be what is decoded.
  if (metadata.format !== (file.format === 'avif' ? 'heif' : file.format)) {
    throw new VitrineError('image_unsupported', 'The bytes begin like one format and are of another.');
  }
  const { width, height } = metadata.autoOrient;
  const pixels = width * height;
  checkSides(width, height, limits.minSidePixels);
  const bytes = toDecodedBytes(metadata, file);
  const maxBytes = toBudgetBytes(limits);
  if (pixels > limits.maxPixels || bytes > maxBytes) {
    throw new VitrineError(
      'image_too_many_pixels',
      `The image has ${width} × ${height} pixels. For ${toKind(metadata, file)} that takes ${toMb(bytes)} MB; ${limits.maxPixels} pixels and ${toMb(maxBytes)} MB are allowed.`,
    );
  }
  const scans = file.jpeg?.scans ?? 1;
  if (scans > 1) limitCount(scans * pixels, MAX_SCANNED_PIXELS, 'pixels in all scans');
  limitCount(metadata.icc?.length ?? 0, MAX_PROFILE_BYTES, 'bytes in its colour profile');
  return {
    width,
    height,
    isOrdinary:
      bytes <= ORDINARY_BYTES &&
      pixels <= ORDINARY_PIXELS &&
      scans <= ORDINARY_SCANS &&
      file.jpeg?.isCommon !== false,
  };
}

/** What decoding any allowed image takes at most. */
export function toBudgetBytes({ maxPixels }: Pick<ImageLimits, 'maxPixels'>): number {
  return Math.max(LEAST_BUDGET_BYTES, maxPixels * BUDGET_PER_PIXEL);
}

function checkSides(width: number, height: number, minSidePixels: number): void {
  const [shorter, longer] = [Math.min(width, height), Math.max(width, height)];
  if (shorter < minSidePixels) {
    throw new VitrineError(
      'image_too_small',
      `The image has ${width} × ${height} pixels; each side needs at least ${minSidePixels}.`,
    );
  }
  if (longer > shorter * MAX_ASPECT_RATIO) {
    throw new VitrineError(
      'image_aspect_ratio',
      `The image has ${width} × ${height} pixels; its longer side may be ${MAX_ASPECT_RATIO} times the shorter one.`,
    );
  }
}

const BYTES_PER_SAMPLE: Readonly<Record<string, number>> = {
  char: 1,
  uchar: 1,
  short: 2,
  ushort: 2,
  int: 4,
  uint: 4,
  float: 4,
  double: 8,
  complex: 8,
  dpcomplex: 16,
};

/** libvips keeps so many lines between the decoder and the resize; of a wide image that is the whole. */
const LINES = 1_650;
/** libaom keeps a border around each image. */
const AVIF_BORDER = 64;
/** What any image takes. */
const LEAST_BYTES = 8_000_000;

/**
 * What stands in memory while an image is decoded: a little more than what `npm run bench -- decode-memory` measures.
 * JPEGs are shrunk by their decoder, so that little of them does, unless they come in several scans or are rotated.
 */
export function toDecodedBytes(metadata: Metadata, { bytes, jpeg }: CheckedFile): number {
  const { width, height } = metadata.autoOrient;
  const pixels = width * height;
  const perPixel = metadata.channels * (BYTES_PER_SAMPLE[metadata.depth] ?? 16);
  const whole = pixels * perPixel;
  const isRotated = (metadata.orientation ?? 1) > 1;
  // Transparent lines are there once more while they are put on white.
  const perLine = perPixel * (metadata.hasAlpha ? 1.3 : 1);
  const toLines = (length: number, count: number) => Math.min(count, LINES) * length * perLine;
  // A rotated image stands there as a whole, and in lines before it is turned and afterwards.
  const lines = isRotated ? Math.max(toLines(width, height), toLines(height, width)) : toLines(width, height);
  const resized = LEAST_BYTES + bytes.length + lines + (isRotated ? whole : 0);
  switch (metadata.format) {
    case 'jpeg': {
      // The coefficients of all scans are kept, two bytes each.
      const coefficients = jpeg !== null && jpeg.scans > 1 ? 2 * jpeg.coefficientsPerPixel * pixels : 0;
      return coefficients + (isRotated ? resized : LEAST_BYTES + bytes.length + 0.1 * pixels);
    }
    case 'png':
    case 'tiff':
      return resized + (metadata.isProgressive ? whole : 0);
    case 'webp':
      return resized + 7.2 * pixels;
    case 'gif':
      return resized + 4 * pixels;
    case 'heif': {
      const bordered = (width + 2 * AVIF_BORDER) * (height + 2 * AVIF_BORDER);
      return resized + (metadata.depth === 'uchar' ? 16.2 : 20.2) * bordered;
    }
    default:
      return resized + whole;
  }
}

const NAMES: Readonly<Record<ImageFormat, string>> = {
  jpeg: 'JPEG',
  png: 'PNG',
  webp: 'WebP',
  avif: 'AVIF',
  gif: 'GIF',
  tiff: 'TIFF',
};

/** In the plural, as "rotated progressive JPEGs". */
function toKind({ isProgressive, orientation = 1 }: Metadata, { format, jpeg }: CheckedFile): string {
  const isInPasses = isProgressive || (jpeg !== null && jpeg.scans > 1);
  const words = [
    ...(orientation > 1 ? ['rotated'] : []),
    ...(isInPasses ? [format === 'png' ? 'interlaced' : 'progressive'] : []),
  ];
  return [...words, `${NAMES[format]}s`].join(' ');
}

const toMb = (bytes: number) => Math.ceil(bytes / 1e6);

function limitCount(count: number, max: number, what: string): void {
  if (count <= max) return;
  throw new VitrineError('image_too_complex', `The image has more than ${max} ${what}.`);
}

/** Levels of 255: no pixel of a blank image is further from the mean. */
const BLANK_STEP = 4;

/**
 * True for a picture of nothing. It is judged at the model's size, where noise is gone and a hairline still shows.
 * @param pixels interleaved 8-bit RGB
 */
export function isBlank(pixels: Uint8Array): boolean {
  for (let channel = 0; channel < 3; channel++) {
    let sum = 0;
    let least = 255;
    let greatest = 0;
    for (let at = channel; at < pixels.length; at += 3) {
      const level = pixels[at] ?? 0;
      sum += level;
      if (level < least) least = level;
      if (level > greatest) greatest = level;
    }
    const mean = sum / (pixels.length / 3);
    if (mean - least > BLANK_STEP || greatest - mean > BLANK_STEP) return false;
  }
  return true;
}
