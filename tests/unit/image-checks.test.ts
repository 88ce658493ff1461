import type { Metadata } from 'sharp';
import { describe, expect, it } from 'vitest';
import { type CheckedFile, checkFile, checkHeader } from '../../models/decoding/image-checks.ts';
import { parseConfig } from '../../src/config/config.ts';
import { jpegOfScans, png, pngChunk } from '../fixtures/hostile/containers.ts';

const limits = parseConfig({}).images;

const NONE: CheckedFile = { bytes: new Uint8Array(0), format: 'jpeg', jpeg: null };
const jpeg = (scans: number, coefficientsPerPixel = 1.5): CheckedFile => ({
  ...NONE,
  jpeg: { scans, coefficientsPerPixel, isCommon: true },
});

const header = (megapixels: number, over: Partial<Metadata> = {}): Metadata => {
  const side = Math.floor(Math.sqrt(megapixels * 1e6));
  const upright = { width: side, height: side };
  return {
    format: 'jpeg',
    width: side,
    height: side,
    autoOrient: upright,
    space: 'srgb',
    channels: 3,
    depth: 'uchar',
    isProgressive: false,
    isPalette: false,
    hasProfile: false,
    hasAlpha: false,
    ...over,
  } as Metadata;
};

describe('the largest image follows what stands in memory', () => {
  it.each([
    ['JPEG', 50, {}, jpeg(1)],
    ['CMYK JPEG', 50, { space: 'cmyk', channels: 4 }, jpeg(1, 4)],
    ['JPEG of several scans', 40, {}, jpeg(3)],
    ['progressive JPEG without subsampling', 21, { isProgressive: true }, jpeg(10, 3)],
    ['rotated JPEG', 34, { orientation: 6 }, jpeg(1)],
    ['rotated progressive JPEG', 18, { orientation: 6, isProgressive: true }, jpeg(10)],
    ['PNG', 50, { format: 'png' }, { ...NONE, format: 'png' }],
    ['interlaced PNG', 31, { format: 'png', isProgressive: true }, { ...NONE, format: 'png' }],
    [
      'interlaced PNG of 16 bits',
      10,
      { format: 'png', isProgressive: true, channels: 4, depth: 'ushort' },
      { ...NONE, format: 'png' },
    ],
    ['WebP', 14, { format: 'webp' }, { ...NONE, format: 'webp' }],
    ['GIF', 24, { format: 'gif' }, { ...NONE, format: 'gif' }],
    ['AVIF', 6, { format: 'heif' }, { ...NONE, format: 'avif' }],
    ['AVIF of 12 bits', 4.5, { format: 'heif', depth: 'ushort' }, { ...NONE, format: 'avif' }],
    ['TIFF', 50, { format: 'tiff' }, { ...NONE, format: 'tiff' }],
  ] as const)('%s: %d million pixels, and not a third more', (_, megapixels, over, file) => {
    expect(() => checkHeader(header(megapixels, over), file, limits)).not.toThrow();
    expect(() => checkHeader(header(megapixels * 1.34, over), file, limits)).toThrow(
      expect.objectContaining({ code: 'image_too_many_pixels' }),
    );
  });

  it('is no smaller for small limits of pixels, and larger for high ones', () => {
    const small = { ...limits, maxPixels: 2_000_000 };
    expect(() => checkHeader(header(1.9, { isProgressive: true }), jpeg(10, 3), small)).not.toThrow();
    const high = { ...limits, maxPixels: 100_000_000 };
    expect(() => checkHeader(header(40, { isProgressive: true }), jpeg(10, 3), high)).not.toThrow();
  });

  it('says what the image is and what it takes', () => {
    const over = { orientation: 6, isProgressive: true };
    expect(() => checkHeader(header(40, over), jpeg(10, 3), limits)).toThrow(
      'The image has 6324 × 6324 pixels. For rotated progressive JPEGs that takes 400 MB; 50000000 pixels and 140 MB are allowed.',
    );
  });
});

describe('an image is ordinary', () => {
  it.each([
    ['a photo of a phone', true, header(12), jpeg(1)],
    ['a small progressive JPEG', true, header(2, { isProgressive: true }), jpeg(10)],
    ['a small AVIF', true, header(1, { format: 'heif' }), { ...NONE, format: 'avif' } as const],
    ['a huge photo', false, header(30), jpeg(1)],
    ['many scans', false, header(1, { isProgressive: true }), jpeg(30)],
    ['a large AVIF', false, header(4, { format: 'heif' }), { ...NONE, format: 'avif' } as const],
    ['an odd kind of JPEG', false, header(1), { ...NONE, jpeg: { ...jpeg(1).jpeg!, isCommon: false } }],
  ] as const)('%s: %s', (_, isOrdinary, metadata, file) => {
    expect(checkHeader(metadata, file, limits)).toMatchObject({ isOrdinary });
  });
});

it('refuses a file whose format is not the one that was checked', () => {
  expect(() => checkHeader(header(1, { format: 'svg' }), jpeg(1), limits)).toThrow(
    expect.objectContaining({ code: 'image_unsupported' }),
  );
});

describe('what a container says', () => {
  it('counts the scans of a JPEG', () => {
    expect(checkFile(jpegOfScans(64, 64, 7)).jpeg).toEqual({
      scans: 7,
      coefficientsPerPixel: 3,
      isCommon: true,
    });
  });

  it('leaves out of a PNG what its pixels do not depend on, and nothing else', () => {
    const kept = [pngChunk('gAMA', Buffer.alloc(4)), pngChunk('tRNS', Buffer.alloc(6))];
    const plain = png({ width: 4, height: 4 }, 52, kept);
    const text = pngChunk('zTXt', Buffer.from('k\0\0'));
    const dressed = png({ width: 4, height: 4 }, 52, [
      text,
      kept[0]!,
      text,
      text,
      kept[1]!,
      pngChunk('vpAg'),
    ]);
    expect(Buffer.from(checkFile(dressed).bytes)).toEqual(plain);
    expect(checkFile(plain).bytes).toBe(plain);
  });
});
