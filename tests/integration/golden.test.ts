import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';
import type { Preprocessing } from '../../models/embedder.ts';
import { prepareImage } from '../../models/prepare-image.ts';

/*
 * The pixels of prepareImage compared with those that Pillow and LittleCMS made from the same files, once, by
 * tests/fixtures/golden/make.py. Differences are in levels of 255, over all channels of all pixels.
 *
 * Where nothing is shrunk while it is decoded, the two round at other places (libvips in fixed point) and, when an
 * image is made more than twice smaller, libvips averages blocks of pixels before it applies the kernel: half a
 * level on average, and up to 16 at an edge of one pixel.
 *
 * Large JPEGs are decoded at a half, a quarter or an eighth of their size, which is what makes them fast. Their
 * sides are then rounded up to whole blocks: 901 rows become 113 of 8, a picture 0.3% too high, which moves edges
 * at its end by a sixth of a pixel. That costs up to one level on average and 60 at such an edge.
 */
const TOLERANCE = { mean: 0.6, max: 16 };
const TOLERANCE_SHRUNK_ON_LOAD = { mean: 1, max: 60 };

interface Case {
  readonly image: string;
  readonly fit: Preprocessing['fit'];
  readonly kernel: Preprocessing['kernel'];
  readonly cropFrom: number;
  readonly reference: string;
}

const folder = join(import.meta.dirname, '..', 'fixtures', 'golden');
const { size, cases } = JSON.parse(readFileSync(join(folder, 'cases.json'), 'utf8')) as {
  readonly size: number;
  readonly cases: readonly Case[];
};

describe('prepared pixels compared with an independent reference', () => {
  it.each(cases.map((one) => [one.reference, one] as const))('%s', async (_, one) => {
    const { pixels } = await prepareImage(
      readFileSync(join(folder, 'images', one.image)),
      { ...one, size, mean: [0, 0, 0], std: [1, 1, 1] },
      { maxPixels: 5_000_000, minSidePixels: 1 },
    );
    const reference = await sharp(join(folder, 'references', one.reference))
      .raw()
      .toBuffer();
    expect(pixels).toHaveLength(reference.length);
    const differences = reference.map((level, at) => Math.abs(level - (pixels[at] ?? 0)));
    const tolerance = one.image === 'large.jpg' ? TOLERANCE_SHRUNK_ON_LOAD : TOLERANCE;
    const mean = differences.reduce((sum, difference) => sum + difference, 0) / differences.length;
    expect(mean, 'mean difference').toBeLessThanOrEqual(tolerance.mean);
    expect(Math.max(...differences), 'greatest difference').toBeLessThanOrEqual(tolerance.max);
  });

  it('covers every image that was made', () => {
    const covered = new Set(cases.map(({ image }) => image));
    expect([...covered].sort()).toEqual(readdirSync(join(folder, 'images')).sort());
  });
});

it('shows the inks of a CMYK image without a profile as colours', async () => {
  const { pixels } = await prepareImage(
    readFileSync(join(folder, 'cmyk-plain.jpg')),
    { size, fit: 'stretch', cropFrom: size, kernel: 'cubic', mean: [0, 0, 0], std: [1, 1, 1] },
    { maxPixels: 5_000_000, minSidePixels: 1 },
  );
  const at = (x: number, y: number) => [...pixels.subarray((y * size + x) * 3, (y * size + x) * 3 + 3)];
  const [white, cyan, yellow, black] = [at(16, 16), at(48, 16), at(16, 48), at(48, 48)];
  for (const level of white!) expect(level).toBeGreaterThan(250);
  for (const level of black!) expect(level).toBeLessThan(70);
  expect(cyan![2]! - cyan![0]!).toBeGreaterThan(150);
  expect(yellow![0]! - yellow![2]!).toBeGreaterThan(150);
});
