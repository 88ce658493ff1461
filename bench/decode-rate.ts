import { hash } from 'node:crypto';
import { globSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import pLimit from 'p-limit';
import { pino } from 'pino';
import { createDecoder, type Decoder } from '../models/decoding/decoder.ts';
import type { Embedder } from '../models/embedder.ts';
import { createThreadEmbedder } from '../models/embedding/thread-embedder.ts';
import { resolveModel } from '../models/files/model-folder.ts';
import { prepareImage } from '../models/prepare-image.ts';
import { parseConfig } from '../src/config/config.ts';
import { readEnvironment } from '../src/config/env.ts';
import { systemClock } from '../src/observability/system-clock.ts';
import { createThumbnailCache } from '../src/thumbnails/cache.ts';
import { newClaimedJob } from '../tests/support/fake-queue.ts';
import { createPipeline } from '../workers/pipeline.ts';
import { readOwnCpuMs } from './support/processor-time.ts';
import { median } from './support/report.ts';

const CONFIG = parseConfig(readEnvironment());
const PHOTOS = join(import.meta.dirname, '../../shared/data');
/** Jobs that a worker holds at once. */
const HELD = 24;
const TARGET = 0.95;
const logger = pino({ level: 'silent' });

/**
 * The rate of the pipeline that decodes in processes, compared with one that decodes in the worker's own threads, or with
 * `--thumbnails` of one that draws thumbnails with one that doesn't: the same photos, model and settings, in turns; the
 * store takes no time. Prints the medians, and the medians of the rounds' ratios. The time of the processors says more
 * than the rate where other programs run as well. Linux only.
 */
export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      folder: { type: 'string', default: PHOTOS },
      model: { type: 'string', default: 'builtin' },
      rounds: { type: 'string', default: '9' },
      jobs: { type: 'string', default: '600' },
      thumbnails: { type: 'boolean', default: false },
    },
  });
  const files = globSync('**/*.{jpg,jpeg,png,webp}', { cwd: values.folder }).sort();
  if (files.length === 0) throw new Error(`There are no photos in ${values.folder}.`);
  const photos = Array.from({ length: Number(values.jobs) }, (_, index) =>
    readFileSync(join(values.folder, files[(index * 7) % files.length] ?? '')),
  );
  const meanBytes = photos.reduce((sum, { length }) => sum + length, 0) / photos.length;
  console.log(
    `${photos.length} photos of ${Math.round(meanBytes / 1000)} KB on average, model ${values.model}`,
  );

  await using embedder = createThreadEmbedder({
    ensureModel: () => resolveModel(values.model, CONFIG.model),
    device: 'cpu',
    threads: 0,
    intraOpThreads: 0,
    maxProcessMemoryBytes: 0,
    logger,
  });
  await embedder.start();
  await using processes = createDecoder({ ...CONFIG.images, logger });
  const inProcesses: Side = { name: 'in processes', decoder: processes, withThumbnails: false };
  const sides: readonly [Side, Side] = values.thumbnails
    ? [
        { ...inProcesses, name: 'with thumbnails', withThumbnails: true },
        { ...inProcesses, name: 'without' },
      ]
    : [inProcesses, { ...inProcesses, name: 'in threads', decoder: createThreadDecoder() }];
  for (const side of sides) await measure(side, embedder, photos.slice(0, 100));

  const measured: readonly [Measured[], Measured[]] = [[], []];
  for (let round = 0; round < Number(values.rounds); round++) {
    // The one that comes second finds a warmer machine: they take turns.
    for (const index of round % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const))
      measured[index].push(await measure(sides[index], embedder, photos));
  }
  for (const [index, { name }] of sides.entries()) {
    const rounds = measured[index] ?? [];
    const rate = median(rounds.map(({ perSecond }) => perSecond)).toFixed(1);
    const cpu = median(rounds.map(({ cpuMs }) => cpuMs)).toFixed(2);
    console.log(`${name}: ${rate} images/s, ${cpu} ms of processors per image`);
  }
  const toRatio = (name: keyof Measured) =>
    median(measured[0].map((one, round) => one[name] / (measured[1][round] ?? one)[name]));
  const rate = toRatio('perSecond');
  const verdict = ` (target ≥ ${TARGET}): ${rate >= TARGET ? 'met' : 'not met'}`;
  console.log(`rate: ${rate.toFixed(3)} times${values.thumbnails ? '' : verdict}`);
  console.log(`time of processors: ${toRatio('cpuMs').toFixed(3)} times`);
}

/** What is compared. */
interface Side {
  readonly name: string;
  readonly decoder: Pick<Decoder, 'prepare'>;
  readonly withThumbnails: boolean;
}

/** As the worker decoded before: in its own process, eight at a time. */
function createThreadDecoder(): Pick<Decoder, 'prepare'> {
  const limit = pLimit(CONFIG.worker.concurrency);
  return {
    prepare: (bytes, preprocessing) =>
      limit(async () => ({
        ...(await prepareImage(bytes, preprocessing, CONFIG.images)),
        contentHash: hash('sha256', bytes, 'hex'),
        thumbnail: null,
      })),
  };
}

interface Measured {
  readonly perSecond: number;
  /** Of this process and its children, for each image. */
  readonly cpuMs: number;
}

async function measure(
  { decoder, withThumbnails }: Side,
  embedder: Embedder,
  photos: readonly Buffer[],
): Promise<Measured> {
  const { concurrency, batchSize, softTimeoutMs } = CONFIG.worker;
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-bench-'));
  using _folder = { [Symbol.dispose]: () => rmSync(folder, { recursive: true }) };
  await using thumbnails = createThumbnailCache({
    ...CONFIG.thumbnails,
    folder,
    collection: 'bench',
    clock: systemClock,
    logger,
  });
  const pipeline = createPipeline(
    {
      images: {
        fetch: async (image) => photos[Number(image.kind === 'inline' && image.base64)] ?? Buffer.alloc(0),
      },
      decoder,
      embedder,
      store: {
        collection: 'bench',
        getPayloads: async (ids) => ids.map(() => null),
        upsert: async (points) => points.map(() => 'indexed'),
      },
      clock: systemClock,
      thumbnails,
    },
    {
      concurrency,
      batchSize,
      softTimeoutMs,
      withThumbnails,
      imageTimeoutMs: 30_000,
      storeTimeoutMs: 30_000,
      onStuck: () => undefined,
      onSlow: () => undefined,
    },
  );
  const held = pLimit(HELD);
  const startedAt = performance.now();
  const cpuBefore = readOwnCpuMs();
  await Promise.all(
    photos.map((_, index) =>
      held(() => {
        const job = newClaimedJob(`job-${index}`);
        const data = { ...job.data, image: { kind: 'inline', base64: String(index) } as const };
        return pipeline.process({
          job: { ...job, data },
          abort: new AbortController(),
          heldAt: 0,
          stage: 'waiting',
          workedMs: 0,
        });
      }),
    ),
  );
  return {
    perSecond: (photos.length / (performance.now() - startedAt)) * 1_000,
    cpuMs: (readOwnCpuMs() - cpuBefore) / photos.length,
  };
}
