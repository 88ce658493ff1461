import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import type { JobQueue } from '../../src/queue/port.ts';
import { createRedisBackend } from '../../src/queue/redis/redis-backend.ts';
import { createQdrantVectorStore } from '../../src/vectors/qdrant/vector-store.ts';
import { createTempFolder } from '../support/context.ts';
import { drawImage } from '../support/images.ts';
import { root, startProgram } from '../support/program.ts';
import { startQdrantDouble } from '../support/qdrant-double.ts';
import { freePort, startRedis } from '../support/redis-server.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { startApi } from './api.ts';
import { check, type Outcome } from './check.ts';
import { createRedisFaults, createStoreFaults, type Fault, storm } from './faults.ts';
import { startFleet } from './fleet.ts';
import { createImageRecord, createLedger, type Ledger } from './ledger.ts';
import { produce } from './producer.ts';
import { createRandom } from './random.ts';
import { createRecovery, type Recovery } from './recovery.ts';
import { createTally, type Tally } from './tally.ts';

export interface ChaosOptions {
  readonly kills: number;
  readonly seed: number;
  readonly leaseMs: number;
  /** True: workers are killed, now and then, and nothing else goes wrong: for the time of recovery. */
  readonly killsOnly: boolean;
  /** Redis's `appendfsync`. */
  readonly appendFsync: string;
  /** Then it ends, whatever has been reached. */
  readonly deadlineMs: number;
  readonly signal: AbortSignal;
  progress(line: string): void;
}

export interface ChaosReport {
  readonly tally: Tally;
  readonly ledger: Ledger;
  readonly recovery: Recovery;
  readonly kills: number;
  readonly outcome: Outcome;
  readonly seconds: number;
}

const PREFIX = 'chaos';
const STORE_TIMEOUT_MS = 6_000;
/** The adapter gives a request a third of its time. */
const STORE_REQUEST_MS = STORE_TIMEOUT_MS / 3;
const QUIET_WITHIN_MS = 240_000;
/** Long enough for most jobs that are lost in it to come back in it: their recovery is told apart. */
const LULL_MS = 40_000;
/** Ready workers live about as long as it takes to start one: a kill a second. */
const SHORT_LIFE_MS = [100, 2_500] as const;
/** As they may live when nothing but now and then a kill goes wrong: most of them work at any time. */
const LONG_LIFE_MS = [2_000, 20_000] as const;
const FEW_STREAMS = 8;
/** So many requests at once that each worker has its hands full, and leaves jobs when it is killed. */
const MANY_STREAMS = 30;
const PRODUCTS = 120;
const PICTURES = 16;

/** Starts everything, breaks it until all kills are given, waits until nothing moves, and checks what is left. */
export async function runChaos(options: ChaosOptions): Promise<ChaosReport> {
  const { kills, killsOnly, leaseMs, seed } = options;
  const startedAt = performance.now();
  const random = createRandom(seed);
  const tally = createTally();
  await using stack = new AsyncDisposableStack();
  const calm = new AbortController();
  const deadline = AbortSignal.any([options.signal, AbortSignal.timeout(options.deadlineMs)]);
  deadline.addEventListener('abort', () => calm.abort(), { once: true });
  /** Aborted: whatever still runs here ends. */
  const ending = new AbortController();
  options.signal.addEventListener('abort', () => ending.abort(), { once: true });

  const folder = stack.use(await createTempFolder());
  const redis = stack.use(await startRedis(['--appendfsync', options.appendFsync]));
  const redisProxy = stack.use(await startTcpProxy(redis.port));
  const double = stack.use(await startQdrantDouble());
  const storeProxy = stack.use(await startTcpProxy(Number(new URL(double.url).port)));
  const environment = {
    HOST: '127.0.0.1',
    PORT: String(await freePort()),
    DATA_DIR: join(folder.path, 'data'),
    IMAGE_ROOTS: folder.path,
    REDIS_URL: `redis://127.0.0.1:${redisProxy.port}`,
    QUEUE_PREFIX: PREFIX,
    QDRANT_URL: `http://127.0.0.1:${storeProxy.port}`,
    QDRANT_TIMEOUT_MS: String(STORE_TIMEOUT_MS),
    MODEL: 'tiny-clip',
    MODELS_DIR: join(root, 'tests', 'fixtures'),
    EMBEDDING_THREADS: '1',
    INTRA_OP_THREADS: '1',
    WORKER_CONCURRENCY: '2',
    BATCH_SIZE: '2',
    SHUTDOWN_GRACE_MS: '3000',
    LEASE_MS: String(leaseMs),
    // A thousand processes start the quicker.
    NODE_COMPILE_CACHE: join(folder.path, 'compiled'),
  };
  const pictures = await drawPictures(folder.path);
  // Its orderly end fills the compile cache.
  await startProgram('workers/main.ts', environment, ['--once'], { folder: folder.path }).ended;

  const logger = pino({ level: 'silent' });
  const direct = { logger, maxPending: 0, prefix: PREFIX };
  const { queue } = stack.use(await createRedisBackend({ ...direct, url: redis.url }));
  const store = stack.use(
    createQdrantVectorStore({ url: double.url, collection: 'products', timeoutMs: 30_000, logger }),
  );
  const api = stack.use(await startApi(environment, folder.path, tally));
  const recovery = createRecovery(queue);
  const ledger = createLedger(
    Array.from({ length: PRODUCTS }, (_, index) =>
      (index % 3 === 0 ? ['main', 'back'] : ['main']).map((imageId) =>
        createImageRecord(`product-${index}`, imageId, index % 4 === 0),
      ),
    ).flat(),
  );
  const fleet = stack.use(
    startFleet({
      environment,
      folder: folder.path,
      leaseMs,
      lifeMs: killsOnly ? LONG_LIFE_MS : SHORT_LIFE_MS,
      killsOnly,
      kills,
      random,
      tally,
      recovery,
      calm: calm.signal,
    }),
  );

  const watching = new AbortController();
  stack.defer(() => watching.abort());
  const watch = recovery.watch(watching.signal);
  const producing = produce({
    url: api.url,
    ledger,
    streams: killsOnly ? MANY_STREAMS : FEW_STREAMS,
    random: random.fork('producer'),
    tally,
    ...pictures,
    signal: calm.signal,
    ending: ending.signal,
  });

  const note = async (fault: Fault, run: () => Promise<void>) => {
    tally.count(fault.name);
    await (fault.isOutage ? recovery.during(run) : run());
  };
  const faults = killsOnly
    ? []
    : [
        storm(
          [
            createRedisFaults(redis, redisProxy),
            createStoreFaults(double, storeProxy, STORE_REQUEST_MS),
            [api.fault],
          ],
          { random, pauseMs: [500, 8_000], lullMs: LULL_MS, calm: calm.signal, ending: ending.signal, note },
        ),
      ];
  // Before what they harm is disposed, or a Redis would be started that nobody ends.
  stack.defer(async () => {
    calm.abort();
    ending.abort();
    await Promise.allSettled([producing, ...faults]);
  });
  const progress = setInterval(() => {
    options.progress(`${fleet.killed} of ${kills} kills, ${ledger.acceptedIds.size} jobs accepted`);
    // The double keeps all requests for other tests; here they are too many.
    double.requests.length = 0;
  }, 10_000);
  stack.defer(() => clearInterval(progress));

  const aborted = new Promise<void>((resolve) => calm.signal.addEventListener('abort', () => resolve()));
  await Promise.race([fleet.harmed, aborted]);
  calm.abort();
  options.signal.throwIfAborted();
  await Promise.all([producing, ...faults]);
  if (fleet.killed < kills) tally.find(`only ${fleet.killed} of ${kills} kills were given in time`);

  options.progress('waiting until nothing moves');
  await untilQuiet(api.url, queue, options.signal).catch((error: unknown) => tally.find(String(error)));
  options.signal.throwIfAborted();
  // What of the last kill is not back yet by now is lost, and will be found below.
  watching.abort();
  await watch;
  await fleet.stop();
  const parts = { ledger, queue, store, apiUrl: api.url, redis: redis.client, prefix: PREFIX };
  const outcome = await check(parts, tally);
  await api.stop();
  // Requests that a killed process left half sent are its own; the others must be as Qdrant wants them.
  const violations = double.violations.filter((text) => /^(GET|PUT|POST|DELETE) /.test(text));
  for (const text of violations) tally.find(`Qdrant would refuse: ${text}`);
  const seconds = (performance.now() - startedAt) / 1_000;
  return { tally, ledger, recovery, kills: fleet.killed, outcome, seconds };
}

async function drawPictures(folder: string) {
  const paths = join(folder, 'pictures');
  await mkdir(paths);
  const pictures = await Promise.all(
    Array.from({ length: PICTURES }, async (_, seed) => {
      // The queue keeps large payloads apart.
      const bytes = await drawImage(seed, seed % 4 === 0 ? 48 : 200);
      if (seed % 2 === 0) return { image_base64: bytes.toString('base64') };
      const path = join(paths, `${seed}.png`);
      await writeFile(path, bytes);
      return { image_path: path };
    }),
  );
  const brokenPicture = { image_base64: Buffer.from('no picture at all '.repeat(100)).toString('base64') };
  return { pictures: pictures as Record<string, string>[], brokenPicture };
}

/** Until no job waits or runs, in the queue or in the spool. */
async function untilQuiet(url: string, queue: JobQueue, signal: AbortSignal): Promise<void> {
  const end = performance.now() + QUIET_WITHIN_MS;
  let last = 'nothing was answered';
  while (performance.now() < end && !signal.aborted) {
    const stats = await fetch(`${url}/queue/stats`, { signal: AbortSignal.timeout(10_000) })
      .then((response) => response.json() as Promise<Record<string, unknown>>)
      .catch(() => null);
    if (stats !== null) last = JSON.stringify(stats);
    // Its own connection may have been cut a moment ago.
    const known = await queue.stats().catch(() => null);
    if (known !== null && stats?.['total_pending'] === 0 && (stats['spooled'] ?? 0) === 0) {
      const { waiting, delayed, processing } = known;
      if (waiting.high + waiting.normal + waiting.low + delayed + processing === 0) return;
    }
    await delay(500);
  }
  throw new Error(`jobs still move after ${QUIET_WITHIN_MS} ms: ${last}`);
}
