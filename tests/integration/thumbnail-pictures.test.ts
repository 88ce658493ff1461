import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { expect, test } from 'vitest';
import { drawThumbnail, openImage, prepareImage } from '../../models/prepare-image.ts';
import { PREPROCESSING } from '../support/decoder.ts';
import { root } from '../support/program.ts';

const FOLDER = join(root, 'tests/fixtures/golden/images');
const limits = { maxPixels: 50_000_000, minSidePixels: 1 };

const draw = async (bytes: Uint8Array) => drawThumbnail(await openImage(bytes, limits));

/** The mean difference of two pictures, in levels of 255. */
function toDifference(one: Uint8Array, other: Uint8Array): number {
  return one.reduce((sum, level, at) => sum + Math.abs(level - (other[at] ?? 0)), 0) / one.length;
}

/** What the model sees is held against Pillow: turned pictures, profiles, transparency, 16 bits, CMYK. */
test.each(readdirSync(FOLDER))('the thumbnail of %s shows what the model sees', async (name) => {
  const bytes = readFileSync(join(FOLDER, name));
  const thumbnail = await draw(bytes);
  const { format, width, height, exif, icc, space } = await sharp(thumbnail).metadata();
  expect({ format, exif, icc, space }).toEqual({
    format: 'jpeg',
    exif: undefined,
    icc: undefined,
    space: 'srgb',
  });
  expect(Math.max(width, height)).toBeLessThanOrEqual(320);
  const [seen, meant] = await Promise.all(
    [thumbnail, bytes].map((each) => prepareImage(each, PREPROCESSING, limits)),
  );
  // JPEG keeps a quarter of the colours, which shows where there are few pixels.
  const most = Math.max(width, height) < 16 ? 16 : 6;
  expect(toDifference(seen!.pixels, meant!.pixels)).toBeLessThan(most);
});

test('a large picture is made smaller and keeps its proportions; a small one keeps its size', async () => {
  const toBytes = (width: number, height: number) =>
    sharp({ create: { width, height, channels: 3, background: 'teal' } })
      .png()
      .toBuffer();
  const sizeOf = async (bytes: Uint8Array) => {
    const { width, height } = await sharp(await draw(bytes)).metadata();
    return [width, height];
  };
  expect(await sizeOf(await toBytes(1_600, 800))).toEqual([320, 160]);
  expect(await sizeOf(await toBytes(100, 1_000))).toEqual([32, 320]);
  expect(await sizeOf(await toBytes(50, 40))).toEqual([50, 40]);
});
