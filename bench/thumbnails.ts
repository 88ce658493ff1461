import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import sharp, { type Sharp } from 'sharp';

const PHOTOS = join(import.meta.dirname, '../../shared/data');
const SIZE = { width: 320, height: 320, fit: 'inside', withoutEnlargement: true } as const;
const FORMATS: Readonly<Record<string, (image: Sharp) => Sharp>> = {
  'JPEG 80': (image) => image.jpeg({ quality: 80, optimiseCoding: false }),
  'JPEG 80, best tables': (image) => image.jpeg({ quality: 80 }),
  'WebP 80, effort 0': (image) => image.webp({ quality: 80, effort: 0 }),
  'WebP 80, effort 4': (image) => image.webp({ quality: 80, effort: 4 }),
};

/** What formats of thumbnails cost and how near they are to the picture: means over photos, each encoded once per round. */
export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      folder: { type: 'string', default: PHOTOS },
      photos: { type: 'string', default: '100' },
      rounds: { type: 'string', default: '3' },
    },
  });
  sharp.concurrency(1);
  const files = globSync('**/*.{jpg,jpeg,png,webp}', { cwd: values.folder }).sort();
  if (files.length === 0) throw new Error(`There are no photos in ${values.folder}.`);
  const pictures = await Promise.all(
    Array.from({ length: Number(values.photos) }, (_, index) => {
      const bytes = readFileSync(join(values.folder, files[(index * 7) % files.length] ?? ''));
      const small = sharp(bytes).rotate().flatten({ background: 'white' }).resize(SIZE);
      return small.toColourspace('srgb').raw().toBuffer({ resolveWithObject: true });
    }),
  );
  console.log(`${pictures.length} photos, at most ${SIZE.width} pixels a side`);
  const cpuMs = new Map<string, number>();
  for (let round = 0; round < Number(values.rounds); round++) {
    for (const [name, encode] of Object.entries(FORMATS)) {
      const before = process.cpuUsage();
      for (const { data, info } of pictures) await encode(sharp(data, { raw: info })).toBuffer();
      const { user, system } = process.cpuUsage(before);
      cpuMs.set(name, (cpuMs.get(name) ?? 0) + (user + system) / 1000);
    }
  }
  for (const [name, encode] of Object.entries(FORMATS)) {
    const encoded = await Promise.all(
      pictures.map(({ data, info }) => encode(sharp(data, { raw: info })).toBuffer()),
    );
    const nearness = await Promise.all(
      encoded.map(async (bytes, index) => toPsnr(await sharp(bytes).raw().toBuffer(), pictures[index]?.data)),
    );
    const bytes = Math.round(mean(encoded.map(({ length }) => length)));
    const ms = (cpuMs.get(name) ?? 0) / pictures.length / Number(values.rounds);
    console.log(
      `${name.padEnd(21)} ${String(bytes).padStart(6)} bytes, ${ms.toFixed(2)} ms of processors, ${mean(nearness).toFixed(1)} dB`,
    );
  }
}

const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / values.length;

/** Peak signal-to-noise ratio: the greater, the nearer. */
function toPsnr(one: Uint8Array, other: Uint8Array = new Uint8Array()): number {
  const squares = one.reduce((sum, level, at) => sum + (level - (other[at] ?? 0)) ** 2, 0);
  return 10 * Math.log10(255 ** 2 / (squares / one.length));
}
