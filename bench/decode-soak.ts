import { execFileSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
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
const PICTURE = 'picture';

/**
 * The memory of a process and of its decoder's, before and after many hostile images in a row. Another process makes the
 * files, so that their makers' memory counts on neither side.
 */
export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: { images: { type: 'string', default: '2000' }, make: { type: 'string' } },
  });
  if (values.make !== undefined) return makeFiles(values.make);
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-bench-'));
  try {
    execFileSync(process.execPath, [join(import.meta.dirname, 'main.ts'), 'decode-soak', '--make', folder]);
    await soak(folder, Number(values.images));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

/** One picture, and every hostile image. */
async function makeFiles(folder: string): Promise<void> {
  writeFileSync(join(folder, PICTURE), await drawPicture(640, 480).jpeg().toBuffer());
  for (const [index, image] of HOSTILE_IMAGES.entries())
    writeFileSync(join(folder, `hostile-${index}`), await image.make());
}

async function soak(folder: string, count: number): Promise<void> {
  const files = readdirSync(folder)
    .filter((name) => name !== PICTURE)
    .map((name) => join(folder, name));
  const picture = join(folder, PICTURE);
  await using decoder = createDecoder({ ...parseConfig({}).images, logger: pino({ level: 'silent' }) });

  // What any work leaves in memory is there by then.
  await decodeAll(decoder, files, files.length);
  const before = await measure(decoder, picture);
  console.log(`after ${files.length} hostile images: ${toText(before)}`);
  for (const round of [1, 2]) {
    const startedAt = performance.now();
    await decodeAll(decoder, files, count);
    const seconds = ((performance.now() - startedAt) / 1_000).toFixed(0);
    const after = await measure(decoder, picture);
    const ratio = toTotal(after) / toTotal(before);
    console.log(`round ${round}, ${count} hostile images in ${seconds} s: ${toText(after)}`);
    console.log(
      `  ${ratio.toFixed(2)} times what it was (target ≤ ${TARGET}): ${ratio <= TARGET ? 'met' : 'not met'}`,
    );
  }
}

interface Memory {
  readonly own: number;
  readonly decoder: number;
}

const toTotal = ({ own, decoder }: Memory) => own + decoder;
const toMb = (bytes: number) => `${(bytes / 1e6).toFixed(0)} MB`;
const toText = (memory: Memory) =>
  `${toMb(toTotal(memory))} (${toMb(memory.own)} of its own, ${toMb(memory.decoder)} of its decoder)`;

async function decodeAll(decoder: Decoder, files: readonly string[], count: number): Promise<void> {
  const limit = pLimit(AT_ONCE);
  await Promise.allSettled(
    Array.from({ length: count }, (_, index) =>
      limit(async () => decoder.prepare(await readFile(files[index % files.length] ?? ''), PREPROCESSING)),
    ),
  );
}

/** In bytes, when it has come to rest: after a while without work, and one ordinary image. */
async function measure(decoder: Decoder, picture: string): Promise<Memory> {
  await delay(REST_MS);
  await decoder.prepare(await readFile(picture), PREPROCESSING);
  return { own: process.memoryUsage.rss(), decoder: decoder.memoryBytes() };
}
