import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { deflateSync } from 'node:zlib';
import { pino } from 'pino';
import sharp, { type Sharp } from 'sharp';
import { createDecoder } from '../models/decoding/decoder.ts';
import {
  checkFile,
  MAX_ASPECT_RATIO,
  toBudgetBytes,
  toDecodedBytes,
} from '../models/decoding/image-checks.ts';
import type { Preprocessing } from '../models/embedder.ts';
import { parseConfig } from '../src/config/config.ts';
import { tiff, tiffPage } from '../tests/fixtures/hostile/containers.ts';

/** What the largest allowed image of a kind may add to the memory of a worker and its decoder processes. */
const TARGET_BYTES = 150_000_000;

const LIMITS = parseConfig({}).images;
const PREPROCESSING: Preprocessing = {
  size: 224,
  fit: 'pad',
  cropFrom: 224,
  kernel: 'cubic',
  mean: [0, 0, 0],
  std: [1, 1, 1],
};

const rotated = (image: Sharp) => image.withMetadata({ orientation: 6 });
const deep = (image: Sharp) => image.ensureAlpha(0.5).toColourspace('rgb16');
const inks = (image: Sharp) => image.toColourspace('cmyk');
const full = { chromaSubsampling: '4:4:4' } as const;
const quick = { effort: 0 } as const;
const encode = (set: (image: Sharp) => Sharp) => (image: Sharp) => set(image).toBuffer();

interface Kind {
  encode(image: Sharp): Promise<Buffer>;
  /** True: its content makes the file as large as it may be. */
  readonly isNoise?: boolean;
}

/** Every kind of image that stands in memory in a way of its own. */
const KINDS: Readonly<Record<string, Kind>> = {
  JPEG: { encode: encode((image) => image.jpeg()) },
  'JPEG, rotated': { encode: encode((image) => rotated(image).jpeg()) },
  'JPEG, CMYK': { encode: encode((image) => inks(image).jpeg()) },
  'JPEG, CMYK, rotated': { encode: encode((image) => rotated(inks(image)).jpeg()) },
  'progressive JPEG': { encode: encode((image) => image.jpeg({ progressive: true })) },
  'progressive JPEG, 4:4:4': { encode: encode((image) => image.jpeg({ progressive: true, ...full })) },
  'progressive JPEG, 4:4:4, rotated': {
    encode: encode((image) => rotated(image).jpeg({ progressive: true, ...full })),
  },
  'progressive JPEG, CMYK': { encode: encode((image) => inks(image).jpeg({ progressive: true })) },
  PNG: { encode: encode((image) => image.png()) },
  'PNG, 16 bits, alpha': { encode: encode((image) => deep(image).png()) },
  'PNG, 16 bits, alpha, rotated': { encode: encode((image) => rotated(deep(image)).png()) },
  'interlaced PNG': { encode: encode((image) => image.png({ progressive: true })) },
  'interlaced PNG, 16 bits, alpha': { encode: encode((image) => deep(image).png({ progressive: true })) },
  WebP: { encode: encode((image) => image.webp(quick)) },
  'WebP, alpha': { encode: encode((image) => image.ensureAlpha(0.5).webp(quick)) },
  'WebP, lossless': { encode: encode((image) => image.webp({ lossless: true, ...quick })) },
  'WebP, rotated': { encode: encode((image) => rotated(image).webp(quick)) },
  GIF: { encode: encode((image) => image.gif({ effort: 1, dither: 0 })) },
  AVIF: { encode: encode((image) => image.avif(quick)) },
  'AVIF, alpha': { encode: encode((image) => image.ensureAlpha(0.5).avif(quick)) },
  'AVIF, 12 bits': { encode: encode((image) => image.avif({ bitdepth: 12, ...quick })) },
  TIFF: { encode: encode((image) => image.tiff({ compression: 'deflate' })) },
  'TIFF, tiled': { encode: encode((image) => image.tiff({ compression: 'deflate', tile: true })) },
  'TIFF, 16 bits, alpha': { encode: encode((image) => deep(image).tiff({ compression: 'deflate' })) },
  'TIFF, rotated': { encode: encode((image) => rotated(image).tiff({ compression: 'deflate' })) },
  'TIFF, one strip': { encode: encodeStrip },
  'JPEG, a large file': { encode: encode((image) => image.jpeg({ quality: 100, ...full })), isNoise: true },
  'progressive JPEG, a large file': {
    encode: encode((image) => image.jpeg({ quality: 100, progressive: true, ...full })),
    isNoise: true,
  },
  'PNG, a large file': { encode: encode((image) => image.png({ compressionLevel: 1 })), isNoise: true },
};
const SHAPES = { square: 1, wide: MAX_ASPECT_RATIO, high: 1 / MAX_ASPECT_RATIO } as const;

/** The pixels as they are, in one strip. */
async function encodeStrip(image: Sharp): Promise<Buffer> {
  const { data, info } = await image.greyscale().raw().toBuffer({ resolveWithObject: true });
  const strip = deflateSync(data, { level: 1 });
  const page = tiffPage(info.width, info.height, 8, strip.length);
  return tiff(
    page.map((entry) => (entry[0] === 259 ? [259, 3, 8] : entry)),
    strip,
  );
}

/**
 * What the largest allowed image of each kind adds to the memory of a process and its decoder's, for each a new one: the
 * peaks while it is decoded, less what they used before. `--shapes` measures the longest allowed images as well. Linux
 * only.
 */
export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: { file: { type: 'string' }, only: { type: 'string', default: '' }, shapes: { type: 'boolean' } },
  });
  if (values.file !== undefined) return console.log(await measure(values.file));
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-bench-'));
  let worst = 0;
  try {
    for (const [name, kind] of Object.entries(KINDS)) {
      if (!name.includes(values.only)) continue;
      for (const [shape, aspect] of Object.entries(SHAPES)) {
        // A long picture of noise shrinks to one grey, and is refused as blank.
        if (shape !== 'square' && (!values.shapes || kind.isNoise)) continue;
        const largest = await drawLargest(kind, aspect);
        if (largest === null) continue;
        const file = join(folder, 'image');
        writeFileSync(file, largest.bytes);
        const program = [join(import.meta.dirname, 'main.ts'), 'decode-memory', '--file', file];
        const peak = Number(execFileSync(process.execPath, program));
        worst = Math.max(worst, peak);
        console.log(
          [
            `${name}, ${largest.width} × ${largest.height}`.padEnd(52),
            `file ${toMb(largest.bytes.length)} MB`.padEnd(16),
            `estimate ${toMb(largest.estimate)} MB`.padEnd(20),
            `adds ${toMb(peak)} MB`,
          ].join(''),
        );
      }
    }
  } finally {
    rmSync(folder, { recursive: true });
  }
  console.log(
    `The worst adds ${toMb(worst)} MB (target < ${toMb(TARGET_BYTES)}): ${worst < TARGET_BYTES ? 'met' : 'not met'}`,
  );
}

const toMb = (bytes: number) => Number((bytes / 1e6).toFixed(1));

interface Drawn {
  readonly width: number;
  readonly height: number;
  readonly bytes: Buffer;
  readonly estimate: number;
}

/** The largest allowed image of the kind; null when the format has no such shapes. */
async function drawLargest({ encode, isNoise = false }: Kind, aspect: number): Promise<Drawn | null> {
  let pixels = LIMITS.maxPixels;
  for (;;) {
    const height = Math.ceil(Math.sqrt(pixels / aspect));
    const width = Math.floor(pixels / height);
    const longer = Math.max(width, height);
    // What the formats allow.
    if (longer > 65_000 || longer > MAX_ASPECT_RATIO * Math.min(width, height)) return null;
    const bytes = await encode(isNoise ? drawNoise(width, height) : draw(width, height)).catch(() => null);
    if (bytes === null) return null;
    const estimate = toDecodedBytes(
      await sharp(bytes, { limitInputPixels: false }).metadata(),
      checkFile(bytes),
    );
    const share = Math.max(estimate / toBudgetBytes(LIMITS), bytes.length / LIMITS.maxBytes);
    if (share <= 1) return { width, height, bytes, estimate };
    // A little too small is near enough.
    pixels *= Math.min(0.99, 0.995 / share);
  }
}

/** A picture of any size, in blocks of one colour: its file is small. */
function draw(width: number, height: number): Sharp {
  const seeds = Buffer.from(
    Array.from({ length: 32 * 32 * 3 }, (_, index) => (index % 96) + Math.floor(index / 96) * 4),
  );
  return sharp(seeds, { raw: { width: 32, height: 32, channels: 3 } }).resize(width, height, {
    fit: 'fill',
    kernel: 'nearest',
  });
}

function drawNoise(width: number, height: number): Sharp {
  const noise = { type: 'gaussian', mean: 128, sigma: 60 } as const;
  return sharp({ create: { width, height, channels: 3, background: '#000', noise } });
}

/** The bytes that decoding the file adds to this process and its children, at their peaks. */
async function measure(file: string): Promise<number> {
  const bytes = readFileSync(file);
  await using decoder = createDecoder({ ...LIMITS, logger: pino({ level: 'silent' }) });
  // Starts both processes.
  await decoder.prepare(await draw(320, 320).jpeg().toBuffer(), PREPROCESSING);
  await decoder.prepare(await draw(3_000, 3_000).webp(quick).toBuffer(), PREPROCESSING);
  const children = readFileSync(`/proc/self/task/${process.pid}/children`, 'utf8').trim().split(' ');
  const before = ['self', ...children].map((pid) => {
    // The peak begins again.
    writeFileSync(`/proc/${pid}/clear_refs`, '5');
    return readMemory(pid, 'VmRSS');
  });
  await decoder.prepare(bytes, PREPROCESSING);
  return ['self', ...children].reduce(
    (sum, pid, index) => sum + readMemory(pid, 'VmHWM') - (before[index] ?? 0),
    0,
  );
}

function readMemory(pid: string, name: 'VmRSS' | 'VmHWM'): number {
  const [, kilobytes] =
    new RegExp(`${name}:\\s+(\\d+) kB`).exec(readFileSync(`/proc/${pid}/status`, 'utf8')) ?? [];
  return Number(kilobytes) * 1024;
}
