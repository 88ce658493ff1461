import { existsSync, globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Decoder } from '../../models/decoding/decoder.ts';
import { prepareImage } from '../../models/prepare-image.ts';
import { VitrineError } from '../../src/errors/vitrine-error.ts';
import { drawPicture, FORMATS, flipBits, HOSTILE_IMAGES } from '../fixtures/hostile/images.ts';
import { createTestDecoder, PREPROCESSING } from '../support/decoder.ts';

/** Three times the deadline of one image. */
const BOUND_MS = 45_000;
const MAX_BYTES = 20_000_000;

let decoder: Decoder;
beforeAll(() => {
  decoder = createTestDecoder();
});
afterAll(() => decoder[Symbol.asyncDispose]());

/** The code that it is refused with; null: it was decoded. */
async function decode(bytes: Buffer): Promise<string | null> {
  return toCode(async () => {
    const { pixels } = await decoder.prepare(bytes, PREPROCESSING);
    expect(pixels).toHaveLength(PREPROCESSING.size ** 2 * 3);
  });
}

async function toCode(work: () => Promise<unknown>): Promise<string | null> {
  try {
    await work();
    return null;
  } catch (error) {
    if (error instanceof VitrineError) return error.code;
    throw error;
  }
}

describe('each hostile image ends as it should, in bounded time', () => {
  it('has at least 80 cases, each with a name of its own', () => {
    expect(HOSTILE_IMAGES.length).toBeGreaterThanOrEqual(80);
    expect(new Set(HOSTILE_IMAGES.map(({ name }) => name)).size).toBe(HOSTILE_IMAGES.length);
  });

  it.each(HOSTILE_IMAGES.map((image) => [image.name, image.code, image] as const))(
    '%s: %s',
    async (_, code, image) => {
      const bytes = await image.make();
      expect(bytes.length).toBeLessThan(MAX_BYTES);
      const startedAt = performance.now();
      expect(await decode(bytes)).toBe(code);
      expect(performance.now() - startedAt).toBeLessThan(BOUND_MS);
    },
    60_000,
  );

  it.each(HOSTILE_IMAGES.map((image) => [image.name, image] as const))(
    '%s, as a thumbnail',
    async (_, { code, make }) => {
      const bytes = await make();
      const startedAt = performance.now();
      // Nothing is wrong with a blank picture that people look at.
      const meant = code === 'image_blank' ? null : code;
      expect(await toCode(() => decoder.drawThumbnail(bytes))).toBe(meant);
      expect(performance.now() - startedAt).toBeLessThan(BOUND_MS);
    },
    60_000,
  );
});

/** What damage at any place may end in. */
const DAMAGED = new Set([
  null,
  'image_corrupt',
  'image_unsupported',
  'image_too_many_pixels',
  'image_too_complex',
  'image_too_small',
  'image_aspect_ratio',
  'image_blank',
]);

describe('damage at any place is survived', () => {
  it.each(FORMATS)('%s with flipped bits', async (format) => {
    const bytes = await drawPicture(64, 48).toFormat(format).toBuffer();
    const codes = await Promise.all(
      Array.from({ length: 150 }, (_, seed) => decode(flipBits(bytes, seed + 1))),
    );
    for (const [seed, code] of codes.entries()) expect(DAMAGED, `seed ${seed + 1}`).toContain(code);
  });

  it.each(FORMATS)('%s cut off anywhere', async (format) => {
    const bytes = await drawPicture(64, 48).toFormat(format).toBuffer();
    const lengths = Array.from({ length: 60 }, (_, index) => Math.floor((bytes.length * index) / 60));
    const codes = await Promise.all(lengths.map((length) => decode(bytes.subarray(0, length))));
    for (const [index, code] of codes.entries())
      expect(['image_corrupt', 'image_unsupported'], `${lengths[index]} bytes`).toContain(code);
  });
});

/** Real photos of products and of groceries; only where they lie next to the project. */
const PHOTOS = join(import.meta.dirname, '../../../shared/data');
const havePhotos = existsSync(PHOTOS);
if (!havePhotos) console.log(`No photos in ${PHOTOS}: the test that refuses none of them is left out.`);

describe.runIf(havePhotos)('real photos', () => {
  it('are all decoded', { timeout: 600_000 }, async () => {
    const photos = globSync('**/*.{jpg,jpeg,png,webp}', { cwd: PHOTOS });
    expect(photos.length).toBeGreaterThan(1_000);
    const refused = new Map<string, string>();
    await Promise.all(
      photos.map(async (photo) => {
        const code = await decode(readFileSync(join(PHOTOS, photo)));
        if (code !== null) refused.set(photo, code);
      }),
    );
    expect(refused).toEqual(new Map());
  });
});

it('also refuses SVG where no decoder is around it', async () => {
  const svg = HOSTILE_IMAGES.filter(({ name }) => name.startsWith('SVG'));
  for (const { make } of svg) {
    await expect(
      prepareImage(await make(), PREPROCESSING, { maxPixels: 1e9, minSidePixels: 1 }),
    ).rejects.toMatchObject({ code: 'image_unsupported' });
  }
});
