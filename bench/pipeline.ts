import { createReadStream } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { createTempFolder } from '../tests/support/context.ts';
import { startRedis } from '../tests/support/redis-server.ts';
import type { Arrangement, FloorOptions } from './pipeline/floor.ts';
import { type Measured, perSecond } from './pipeline/measured.ts';
import { listPhotos, runProgram, SHARED, startStoreDouble } from './pipeline/programs.ts';
import type { WholeOptions } from './pipeline/whole.ts';
import { atLeast, median, type Row, report } from './support/report.ts';
import { readCpuMs } from './support/server.ts';

const PROGRAMS = join(import.meta.dirname, 'pipeline');
/** The share of the photos that each arrangement is tried with. */
const SEARCHED = 0.2;
const BATCH_SIZES = [8, 16];

/** What the defaults were before they were derived from this search. */
const EARLIER_DEFAULTS = { INTRA_OP_THREADS: String(Math.min(4, Math.max(1, availableParallelism()))) };

/**
 * Images per second from the queue to the store, compared with the floor: the same photos decoded, resized and embedded from
 * memory, in the best of several arrangements. Both sides run in turns, in processes of their own; a ratio is the median
 * of the rounds' ratios. Processor time per image says the same where other programs run as well.
 */
export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      folder: { type: 'string', default: join(SHARED, 'data') },
      'models-dir': { type: 'string', default: join(SHARED, 'models') },
      model: { type: 'string', default: 'mobilenet-v3-small' },
      images: { type: 'string', default: '2000' },
      rounds: { type: 'string', default: '3' },
      target: { type: 'string', default: '0.9' },
    },
  });
  const photos = listPhotos(values.folder, Number(values.images));
  const model = { model: values.model, modelsDir: values['models-dir'] };
  console.log(`${photos.length} photos, ${values.model}, ${availableParallelism()} processors`);

  const best = await searchArrangements(model, photos);
  await using stack = new AsyncDisposableStack();
  const environment = {
    MODEL: values.model,
    MODELS_DIR: values['models-dir'],
    MODELS_OFFLINE: 'true',
    IMAGE_ROOTS: values.folder,
  };
  const backends = await startBackends(stack);
  const host = await startImageHost(stack, values.folder);
  const toUrl = (path: string) =>
    `${host}${path.slice(values.folder.length).split('/').map(encodeURIComponent).join('/')}`;
  const embedded =
    (more: Readonly<Record<string, string>> = {}, from = photos) =>
    async () => {
      await using folder = await createTempFolder();
      return await runWhole({
        photos: from,
        environment: { ...environment, DATA_DIR: folder.path, ...more },
      });
    };
  const sides = {
    floor: () => runFloor({ ...model, ...best, photos }),
    embedded: embedded(),
    'embedded, arranged as the floor': embedded({
      EMBEDDING_THREADS: String(best.embeddingThreads),
      INTRA_OP_THREADS: String(best.intraOpThreads),
      BATCH_SIZE: String(best.batchSize),
    }),
    'earlier defaults': embedded(EARLIER_DEFAULTS),
    'Redis and Qdrant’s double': async () => {
      await using folder = await createTempFolder();
      return await backends.measure((urls) =>
        runWhole({ photos, environment: { ...environment, DATA_DIR: folder.path, ...urls } }),
      );
    },
    'over HTTP': embedded({ IMAGE_ALLOWED_NETWORKS: '127.0.0.0/8' }, photos.map(toUrl)),
  };
  const measured: Record<string, Measured[]> = {};
  for (let round = 0; round < Number(values.rounds); round += 1) {
    const turns = Object.entries(sides);
    for (const [name, measure] of round % 2 === 0 ? turns : turns.toReversed())
      measured[name] = [...(measured[name] ?? []), await measure()];
  }
  const target = Number(values.target);
  const floors = measured['floor'] ?? [];
  const rows = Object.entries(measured).map(([name, rounds]): Row => {
    const ratio = median(rounds.map((one, round) => perSecond(one) / perSecond(floors[round] ?? one)));
    return {
      side: name,
      'images/s': Math.round(median(rounds.map(perSecond))),
      'of the floor': ratio.toFixed(2),
      'processor ms per image': median(rounds.map(({ cpuMs }) => cpuMs)).toFixed(2),
      ...(name.startsWith('embedded') || name.startsWith('Redis')
        ? atLeast(ratio, target)
        : { target: '', met: '' }),
    };
  });
  const gain = median(
    (measured['embedded'] ?? []).map(
      (one, round) => perSecond(one) / perSecond(measured['earlier defaults']?.[round] ?? one),
    ),
  );
  report('pipeline', rows);
  console.log(`the defaults: ${gain.toFixed(2)} times as fast as the earlier ones (target ≥ 1.15)`);
  console.log(
    `processors of redis-server and the double, not counted above: ${backends.cpuMsPerImage().toFixed(2)} ms per image`,
  );
}

/** Tries the arrangements on a part of the photos, prints each, and returns the fastest. */
async function searchArrangements(
  model: Pick<FloorOptions, 'model' | 'modelsDir'>,
  photos: readonly string[],
): Promise<Arrangement> {
  const processors = availableParallelism();
  const threads = [...new Set([1, Math.max(1, Math.floor(processors / 2)), processors])];
  const arrangements = threads.flatMap((embeddingThreads) =>
    [...new Set([1, Math.max(1, Math.floor(processors / embeddingThreads))])].flatMap((intraOpThreads) =>
      BATCH_SIZES.flatMap((batchSize) =>
        [...new Set([processors, Math.max(4, processors)])].flatMap((decoders) =>
          // A single thread has none to wait for.
          (intraOpThreads === 1 ? [false] : [false, true]).map((isSpinning) => ({
            decoders,
            embeddingThreads,
            intraOpThreads,
            isSpinning,
            batchSize,
          })),
        ),
      ),
    ),
  );
  const tried: { readonly arrangement: Arrangement; readonly rate: number }[] = [];
  for (const arrangement of arrangements) {
    const measured = await runFloor({
      ...model,
      ...arrangement,
      photos: photos.slice(0, Math.ceil(photos.length * SEARCHED)),
    });
    tried.push({ arrangement, rate: perSecond(measured) });
  }
  console.table(tried.map(({ arrangement, rate }) => ({ ...arrangement, 'images/s': Math.round(rate) })));
  const [best] = tried.toSorted((a, b) => b.rate - a.rate);
  if (best === undefined) throw new Error('There is no arrangement to try.');
  return best.arrangement;
}

const runFloor = (options: FloorOptions): Promise<Measured> =>
  runProgram(join(PROGRAMS, 'floor.ts'), options, { UV_THREADPOOL_SIZE: String(options.decoders) });
const runWhole = (options: WholeOptions): Promise<Measured> =>
  runProgram(join(PROGRAMS, 'whole.ts'), options);

/** A redis-server and Qdrant's double in processes of their own; what they use of the processors is counted apart. */
async function startBackends(stack: AsyncDisposableStack) {
  const redis = stack.use(await startRedis());
  const double = stack.use(await startStoreDouble());
  const perImage: number[] = [];
  let run = 0;
  return {
    async measure(work: (urls: Readonly<Record<string, string>>) => Promise<Measured>): Promise<Measured> {
      run += 1;
      const before = readCpuMs(redis.process) + readCpuMs(double.process);
      const urls = {
        REDIS_URL: redis.url,
        QUEUE_PREFIX: `bench-${run}`,
        QDRANT_URL: double.url,
        QDRANT_COLLECTION: `bench-${run}`,
      };
      const measured = await work(urls);
      const usedMs = readCpuMs(redis.process) + readCpuMs(double.process) - before;
      perImage.push(usedMs / measured.images);
      // They run on the same processors: without them, the pipeline would have had that time.
      const takenMs = usedMs / availableParallelism();
      return { ...measured, seconds: measured.seconds - takenMs / 1_000 };
    },
    cpuMsPerImage: () => median(perImage),
  };
}

async function startImageHost(stack: AsyncDisposableStack, folder: string): Promise<string> {
  const server = createServer((request, response) => {
    response.setHeader('Content-Type', 'image/jpeg');
    createReadStream(join(folder, decodeURIComponent(request.url ?? ''))).pipe(response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  stack.defer(() => {
    server.closeAllConnections();
    server.close();
  });
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
