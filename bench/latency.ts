import { globSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { PreparedImage } from '../models/embedder.ts';
import { parseConfig } from '../src/config/config.ts';
import { type Context, createContext } from '../src/context.ts';
import type { NewJob } from '../src/queue/port.ts';
import { createTempFolder } from '../tests/support/context.ts';
import { claim, newJob } from '../tests/support/jobs.ts';
import { toPoint } from '../tests/support/points.ts';
import { startProgram } from '../tests/support/program.ts';
import { startRedis } from '../tests/support/redis-server.ts';
import { createWorker } from '../workers/worker.ts';
import { median, type Row, report } from './support/report.ts';

const SHARED = join(import.meta.dirname, '../../shared');
/** Between two images, so that the system is idle. */
const IDLE_MS = 250;
const TARGET_RATIO = 1.3;
const TARGET_MS = 50;

/**
 * From enqueue to searchable, one image at a time on an idle system, compared with the sum of what has to be done for it: each
 * stage called by itself on the same images in the same run.
 */
export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      folder: { type: 'string', default: join(SHARED, 'data') },
      'models-dir': { type: 'string', default: join(SHARED, 'models') },
      model: { type: 'string', default: 'mobilenet-v3-small' },
      images: { type: 'string', default: '40' },
    },
  });
  const files = globSync('**/*.{jpg,jpeg,png,webp}', { cwd: values.folder }).sort();
  const photos = Array.from({ length: Number(values.images) }, (_, index) =>
    join(values.folder, files[(index * 7) % files.length] ?? ''),
  );
  const environment = {
    MODEL: values.model,
    MODELS_DIR: values['models-dir'],
    MODELS_OFFLINE: 'true',
    IMAGE_ROOTS: values.folder,
    LOG_LEVEL: 'error',
  };
  const rows: Row[] = [];
  await using redis = await startRedis();
  for (const [name, more] of [
    ['one process, SQLite', {}],
    ['one process, Redis', { REDIS_URL: redis.url }],
  ] as const) {
    await using folder = await createTempFolder();
    await using context = await createContext(
      parseConfig({ ...environment, DATA_DIR: folder.path, ...more }),
    );
    const sum = await measureStages(context, photos);
    const whole = await measureWorker(context, photos);
    const ratio = whole / sum;
    rows.push({
      case: name,
      'whole, ms': whole.toFixed(1),
      'stages, ms': sum.toFixed(1),
      ratio: ratio.toFixed(2),
      target: `≤ ${TARGET_RATIO}`,
      met: ratio <= TARGET_RATIO ? 'yes' : 'no',
    });
  }
  await using folder = await createTempFolder();
  const ownEnvironment = { ...environment, DATA_DIR: folder.path };
  await using context = await createContext(parseConfig(ownEnvironment));
  await context.embedder.start();
  await context.store.ensureCollection(context.embedder.model);
  await using _worker = startProgram('workers/main.ts', ownEnvironment);
  const whole = await measureOtherProcess(context, photos);
  rows.push({
    case: 'two processes, one SQLite file',
    'whole, ms': whole.toFixed(1),
    'stages, ms': '',
    ratio: '',
    target: `≤ ${TARGET_MS} ms`,
    met: whole <= TARGET_MS ? 'yes' : 'no',
  });
  report('latency', rows);
}

const toJob = (photo: string, productId: string): NewJob => {
  const job = newJob(productId);
  return { ...job, data: { ...job.data, image: { kind: 'path', path: photo } } };
};

/** The sum of the stages' medians, each called with nothing else going on. */
async function measureStages(context: Context, photos: readonly string[]): Promise<number> {
  const { queue, images, decoder, embedder, store } = context;
  await embedder.start();
  await store.ensureCollection(embedder.model);
  const times = new Map<string, number[]>();
  const timed = async <T>(stage: string, work: () => Promise<T>): Promise<T> => {
    const from = performance.now();
    const result = await work();
    times.set(stage, [...(times.get(stage) ?? []), performance.now() - from]);
    return result;
  };
  for (const [index, photo] of photos.entries()) {
    await timed('enqueue', () => queue.enqueue([toJob(photo, `stage-${index}`)]));
    const [job] = (await timed('claim', () => claim(queue, { max: 1 }))).jobs;
    const bytes = await timed('fetch', () =>
      images.fetch({ kind: 'path', path: photo }, AbortSignal.timeout(10_000)),
    );
    const image: PreparedImage = await timed('prepare', () =>
      decoder.prepare(bytes, embedder.model.preprocessing),
    );
    const [vector] = await timed('embed', () => embedder.embedImages([image]));
    await timed('write', () =>
      store.upsert([{ ...toPoint(`stage-${index}`, 0), vector: vector ?? new Float32Array() }]),
    );
    if (job !== undefined) await queue.settle([{ id: job.id, token: job.token, kind: 'release' }]);
    await queue.cancel(job?.id ?? '');
    await delay(IDLE_MS);
  }
  const medians = [...times].map(([stage, all]) => [stage, median(all)] as const);
  console.log(medians.map(([stage, ms]) => `${stage} ${ms.toFixed(1)} ms`).join(', '));
  return medians.reduce((sum, [, ms]) => sum + ms, 0);
}

/** Until the store has applied the point, with a worker in this process. */
async function measureWorker(context: Context, photos: readonly string[]): Promise<number> {
  let written = Promise.withResolvers<void>();
  const store: Context['store'] = {
    ...context.store,
    async upsert(points) {
      const outcomes = await context.store.upsert(points);
      written.resolve();
      return outcomes;
    },
  };
  const worker = createWorker({
    config: context.config,
    logger: context.logger,
    clock: context.clock,
    queue: context.queue,
    embedder: context.embedder,
    images: context.images,
    webhooks: context.webhooks,
    decoder: context.decoder,
    thumbnails: context.thumbnails,
    store,
  });
  const running = worker.run();
  await delay(1_000);
  const times: number[] = [];
  for (const [index, photo] of photos.entries()) {
    written = Promise.withResolvers();
    const from = performance.now();
    await context.queue.enqueue([toJob(photo, `whole-${index}`)]);
    await written.promise;
    times.push(performance.now() - from);
    await delay(IDLE_MS);
  }
  worker.stop();
  await running;
  return median(times);
}

/** The same with a worker in another process: the point is looked for every two milliseconds. */
async function measureOtherProcess({ queue, store }: Context, photos: readonly string[]): Promise<number> {
  const index = async (photo: string, productId: string): Promise<number> => {
    const from = performance.now();
    await queue.enqueue([toJob(photo, productId)]);
    while ((await store.getProduct(productId)).length === 0) await delay(2);
    return performance.now() - from;
  };
  // The worker has started when the first one is there.
  await index(photos[0] ?? '', 'first');
  const times: number[] = [];
  for (const [at, photo] of photos.entries()) {
    await delay(IDLE_MS);
    times.push(await index(photo, `other-${at}`));
  }
  return median(times);
}
