import { execFileSync } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { parseConfig } from '../src/config/config.ts';
import { createContext } from '../src/context.ts';
import type { NewJob } from '../src/queue/port.ts';
import { drawPicture, HOSTILE_IMAGES } from '../tests/fixtures/hostile/images.ts';
import { newJob } from '../tests/support/jobs.ts';
import { createWorker } from '../workers/worker.ts';

/** Ordinary images before the first measurement: what any work leaves in memory is there by then. */
const WARM_UP = 2_000;
/** Sides of the ordinary images: of a shop, of a phone. */
const PICTURES = [
  [640, 480],
  [1_600, 1_200],
  [4_000, 3_000],
] as const;
/** Until what is under way in the background has ended. */
const REST_MS = 12_000;
const TARGET = 1.1;

/**
 * The memory of a worker and of its decoder's processes, before and after many hostile images in a row, twice. Another
 * process makes the files, so that their makers' memory counts on neither side.
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

/** A few ordinary pictures, and every hostile image. */
async function makeFiles(folder: string): Promise<void> {
  for (const [width, height] of PICTURES)
    writeFileSync(join(folder, `ordinary-${width}`), await drawPicture(width, height).jpeg().toBuffer());
  for (const [index, image] of HOSTILE_IMAGES.entries())
    writeFileSync(join(folder, `hostile-${index}`), await image.make());
}

/** What is measured is what stays in memory, and not what happens to wait for the collector. */
function collectGarbage(): void {
  setFlagsFromString('--expose-gc');
  runInNewContext('gc')();
}

async function soak(folder: string, count: number): Promise<void> {
  const find = (kind: string) => readdirSync(folder).filter((name) => name.startsWith(kind));
  const environment = {
    MODEL: 'builtin',
    IMAGE_ROOTS: folder,
    DATA_DIR: join(folder, 'data'),
    LOG_LEVEL: 'silent',
  };
  await using context = await createContext(parseConfig(environment));
  const runJobs = async (names: readonly string[], jobs: number) => {
    await context.queue.enqueue(
      Array.from({ length: jobs }, (_, index) => toJob(names[index % names.length] ?? '')),
    );
    await createWorker(context).run({ once: true });
    await delay(REST_MS);
    collectGarbage();
    return { own: process.memoryUsage.rss(), decoder: context.decoder.memoryBytes() };
  };

  const before = await runJobs(find('ordinary'), WARM_UP);
  console.log(`after ${WARM_UP} ordinary images: ${toText(before)}`);
  for (const round of [1, 2]) {
    const after = await runJobs(find('hostile'), count);
    const ratio = toTotal(after) / toTotal(before);
    console.log(`round ${round}, after ${count} hostile images: ${toText(after)}`);
    console.log(
      `  ${ratio.toFixed(2)} times what it was (target ≤ ${TARGET}): ${ratio <= TARGET ? 'met' : 'not met'}`,
    );
  }
}

function toJob(path: string): NewJob {
  const job = newJob(randomUUID());
  return { ...job, data: { ...job.data, image: { kind: 'path', path } } };
}

interface Memory {
  readonly own: number;
  readonly decoder: number;
}

const toTotal = ({ own, decoder }: Memory) => own + decoder;
const toMb = (bytes: number) => `${(bytes / 1e6).toFixed(0)} MB`;
const toText = (memory: Memory) =>
  `${toMb(toTotal(memory))} (${toMb(memory.own)} of its own, ${toMb(memory.decoder)} of its decoder)`;
