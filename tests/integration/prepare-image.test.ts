import { randomBytes } from 'node:crypto';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import type { Preprocessing, Region } from '../../models/embedder.ts';
import { prepareImage } from '../../models/prepare-image.ts';

const model = (fit: Preprocessing['fit'], size = 32, cropFrom = 40): Preprocessing => ({
  size,
  fit,
  cropFrom,
  kernel: 'cubic',
  mean: [0, 0, 0],
  std: [1, 1, 1],
});
const limits = { maxPixels: 1_000_000, minSidePixels: 1 };

/** The colour at a place of the prepared image, its sides counted from 0 to 1. */
async function colourAt(bytes: Uint8Array, fit: Preprocessing['fit'], x: number, y: number) {
  const { pixels, size } = await prepareImage(bytes, model(fit), limits);
  const at = 3 * (Math.floor(y * size) * size + Math.floor(x * size));
  return [...pixels.subarray(at, at + 3)];
}

const solid = (width: number, height: number, background: string) =>
  sharp({ create: { width, height, channels: 3, background } });

/** Noise: an image that no coder makes small. */
const noise = (width: number, height: number) =>
  sharp(randomBytes(width * height * 3), { raw: { width, height, channels: 3 } });

describe('fits', () => {
  const flag = async () => {
    const [left, middle, right] = await Promise.all(
      ['red', 'lime', 'blue'].map((colour) => solid(40, 40, colour).png().toBuffer()),
    );
    return solid(120, 40, 'white')
      .composite([
        { input: left!, left: 0, top: 0 },
        { input: middle!, left: 40, top: 0 },
        { input: right!, left: 80, top: 0 },
      ])
      .png()
      .toBuffer();
  };

  it('pads the whole image on white', async () => {
    const bytes = await flag();
    expect(await colourAt(bytes, 'pad', 0.5, 0.1)).toEqual([255, 255, 255]);
    expect(await colourAt(bytes, 'pad', 0.5, 0.9)).toEqual([255, 255, 255]);
    expect(await colourAt(bytes, 'pad', 0.1, 0.5)).toEqual([255, 0, 0]);
    expect(await colourAt(bytes, 'pad', 0.9, 0.5)).toEqual([0, 0, 255]);
  });

  it('crops the centre', async () => {
    const bytes = await flag();
    for (const x of [0.01, 0.5, 0.99]) expect(await colourAt(bytes, 'crop', x, 0.5)).toEqual([0, 255, 0]);
  });

  it.each(['pad', 'crop', 'stretch'] as const)(
    'takes a region of the upright image alone, by %s',
    async (fit) => {
      // As a camera held upright stores it: red is at the top of what a viewer shows.
      const upright = await sharp(await flag())
        .withMetadata({ orientation: 6 })
        .toBuffer();
      const middleOf = async (bytes: Uint8Array, region: Region) => {
        const { pixels, size } = await prepareImage(bytes, { ...model(fit), region }, limits);
        return [...pixels.subarray(3 * (size / 2) * (size + 1), 3 * (size / 2) * (size + 1) + 3)];
      };
      const third = 1 / 3;
      expect(await middleOf(upright, { x: 0, y: 0, width: 1, height: third })).toEqual([255, 0, 0]);
      expect(await middleOf(upright, { x: 0.2, y: third, width: 0.1, height: third })).toEqual([0, 255, 0]);
      expect(await middleOf(await flag(), { x: 2 * third, y: 0, width: third, height: 1 })).toEqual([
        0, 0, 255,
      ]);
      // At least one pixel.
      expect(await middleOf(upright, { x: 1, y: 1, width: 1e-9, height: 1e-9 })).toEqual([0, 0, 255]);
    },
  );

  it('stretches', async () => {
    const bytes = await flag();
    expect(await colourAt(bytes, 'stretch', 0.1, 0.01)).toEqual([255, 0, 0]);
    expect(await colourAt(bytes, 'stretch', 0.9, 0.99)).toEqual([0, 0, 255]);
  });

  it('keeps to the size at any aspect ratio', async () => {
    for (const [width, height] of [
      [1, 1],
      [1, 50],
      [20, 1_000],
      [1_000, 20],
      [31, 33],
    ] as const) {
      const bytes = await solid(width, height, 'red').png().toBuffer();
      for (const fit of ['pad', 'crop', 'stretch'] as const) {
        expect((await prepareImage(bytes, model(fit), limits)).pixels).toHaveLength(32 * 32 * 3);
      }
    }
  });
});

describe('limits', () => {
  it('refuses by the header, before it decodes', async () => {
    const bytes = await solid(1_001, 1_000, 'red').jpeg().toBuffer();
    await expect(prepareImage(bytes, model('pad'), limits)).rejects.toMatchObject({
      code: 'image_too_many_pixels',
    });
  });

  it('lets an image of just the limit through', async () => {
    await expect(
      prepareImage(await solid(1_000, 1_000, 'red').jpeg().toBuffer(), model('pad'), limits),
    ).resolves.toBeDefined();
  });
});

describe('broken files', () => {
  it.each(['jpeg', 'png', 'webp', 'gif', 'tiff', 'avif'] as const)(
    'calls half a %s corrupt',
    async (format) => {
      const bytes = await noise(200, 200).toFormat(format).toBuffer();
      for (const share of [0.02, 0.5, 0.9]) {
        await expect(
          prepareImage(bytes.subarray(0, Math.max(32, bytes.length * share)), model('pad'), limits),
          `${share} of it`,
        ).rejects.toMatchObject({ code: 'image_corrupt', retryable: false });
      }
    },
  );

  it('calls damage in the middle corrupt', async () => {
    const bytes = await noise(200, 200).png().toBuffer();
    const middle = Math.floor(bytes.length / 2);
    bytes.fill(0, middle, middle + 500);
    await expect(prepareImage(bytes, model('pad'), limits)).rejects.toMatchObject({ code: 'image_corrupt' });
  });

  it('forgives what follows the end', async () => {
    const bytes = Buffer.concat([await solid(40, 40, 'red').jpeg().toBuffer(), Buffer.from('trailing')]);
    await expect(prepareImage(bytes, model('pad'), limits)).resolves.toBeDefined();
  });

  it.each([
    ['SVG', '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>'],
    ['text', 'hello'],
    ['nothing', ''],
  ])('calls %s unsupported', async (_, text) => {
    await expect(prepareImage(Buffer.from(text), model('pad'), limits)).rejects.toMatchObject({
      code: 'image_unsupported',
    });
  });
});

it('blocks what libvips could decode as well', async () => {
  const svg = Buffer.from('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>');
  await expect(sharp(svg).metadata()).rejects.toThrow('unsupported image format');
});
