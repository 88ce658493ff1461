import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import pLimit from 'p-limit';
import { pino } from 'pino';
import { createDecoder, type Decoder } from '../models/decoding/decoder.ts';
import type { Preprocessing } from '../models/embedder.ts';
import { parseConfig } from '../src/config/config.ts';
import { drawPicture, HOSTILE_IMAGES } from '../tests/fixtures/hostile/images.ts';

const PREPROCESSING: Preprocessing = {
  size: 224,
  fit: 'pad',
  cropFrom: 224,
  kernel: 'cubic',
  mean: [0, 0, 0],
  std: [1, 1, 1],
};
/** Images under way at once, as in a worker. */
const AT_ONCE = 8;
/** Longer than a process for heavy images stays without work. */
const REST_MS = 12_000;
const TARGET = 1.1;

/**
 * The memory of a process and of its decoder's, before and after many hostile images in a row. The files are made
 * beforehand, and count on both sides.
 */
export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({ args: [...args], options: { images: { type: 'string', default: '2000' } } });
  const count = Number(values.images);
  await using decoder = createDecoder({ ...parseConfig({}).images, logger: pino({ level: 'silent' }) });
  const files: Buffer[] = [];
  for (const image of HOSTILE_IMAGES) files.push(await image.make());
  const picture = await drawPicture(640, 480).jpeg().toBuffer();

  // What any work leaves in memory is there by then.
  await decodeAll(decoder, files, files.length);
  let before = await measure(decoder, picture);
  console.log(`at rest: ${toMb(before)} MB`);
  for (const round of [1, 2]) {
    const startedAt = performance.now();
    await decodeAll(decoder, files, count);
    const seconds = ((performance.now() - startedAt) / 1_000).toFixed(0);
    const after = await measure(decoder, picture);
    const ratio = after / before;
    console.log(
      `round ${round}, ${count} hostile images in ${seconds} s: ${toMb(after)} MB, ${ratio.toFixed(2)} times (target ≤ ${TARGET}): ${ratio <= TARGET ? 'met' : 'not met'}`,
    );
    before = after;
  }
}

const toMb = (bytes: number) => (bytes / 1e6).toFixed(0);

async function decodeAll(decoder: Decoder, files: readonly Buffer[], count: number): Promise<void> {
  const limit = pLimit(AT_ONCE);
  await Promise.allSettled(
    Array.from({ length: count }, (_, index) =>
      limit(() => decoder.prepare(files[index % files.length] ?? Buffer.alloc(0), PREPROCESSING)),
    ),
  );
}

/** In bytes, when it has come to rest: after a while without work, and one ordinary image. */
async function measure(decoder: Decoder, picture: Buffer): Promise<number> {
  await delay(REST_MS);
  await decoder.prepare(picture, PREPROCESSING);
  return process.memoryUsage.rss() + decoder.memoryBytes();
}
