import { randomUUID } from 'node:crypto';
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import type { JobQueue } from '../../src/queue/port.ts';
import { toLeaseTimes } from '../../src/queue/port.ts';
import { createRedisQueue } from '../../src/queue/redis/queue.ts';
import { createQdrantVectorStore } from '../../src/vectors/qdrant/vector-store.ts';
import { createTempFolder } from '../support/context.ts';
import { drawImage } from '../support/images.ts';
import { root, startProgram } from '../support/program.ts';
import { startQdrantDouble } from '../support/qdrant-double.ts';
import { startRedis } from '../support/redis-server.ts';
import { startTcpProxy } from '../support/tcp-proxy.ts';
import { until } from '../support/until.ts';
import { auditQueue } from './checks/audit.ts';
import { check, type Outcome } from './checks/check.ts';
import { createImageRecord, createLedger, type Ledger } from './checks/ledger.ts';
import { createRecovery, type Recovery } from './checks/recovery.ts';
import { createTally, type Tally } from './checks/tally.ts';
import { createRedisFaults, createStoreFaults, type Fault, storm } from './faults.ts';
import { startImageHosts } from './image-host.ts';
import { startApi } from './processes/api.ts';
import { startFleet } from './processes/fleet.ts';
import { produce } from './producer.ts';
import { createRandom } from './random.ts';
import { type TrialParts, tryEndedRecords, tryHungStages, tryLimitedHost, tryLongOutage } from './trials.ts';

export interface ChaosOptions {
  readonly kills: number;
  readonly seed: number;
  readonly leaseMs: number;
  /** True: workers are killed, now and then, and nothing else goes wrong: for the time of recovery. */
  readonly killsOnly: boolean;
  /** Trials that follow the storm; `short`: without the one that waits for a hung inference. */
  readonly trials: 'all' | 'short' | 'none';
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
/** The adapter allows each request a third of its time. */
const STORE_REQUEST_MS = STORE_TIMEOUT_MS / 3;
const QUIET_WITHIN_MS = 240_000;
/** Long enough for most jobs that are lost in it to come back in it: their recovery is reported separately. */
const LULL_MS = 40_000;
/** Ready workers live about as long as it takes to start one: one kill per second. */
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
  const hosts = stack.use(await startImageHosts(await drawImage(1)));
  const environment = {
    HOST: '127.0.0.1',
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
    IMAGE_ALLOWED_HOSTS: '127.0.0.1',
    IMAGE_TIMEOUT_MS: '5000',
    // Attempts that fail are over before the run is.
    RETRY_BASE_MS: '500',
    RETRY_CAP_MS: '5000',
    // A thousand processes start faster.
    NODE_COMPILE_CACHE: join(folder.path, 'compiled'),
  };
  const pictures = await drawPictures(folder.path, hosts.limited);
  // Its orderly end fills the compile cache.
  await startProgram('workers/main.ts', environment, ['--once'], { folder: folder.path }).ended;

  const logger = pino({ level: 'silent' });
  const queue = stack.use(
    await createRedisQueue({
      target: { kind: 'single', options: { host: '127.0.0.1', port: redis.port, db: 0 } },
      prefix: PREFIX,
      logger,
      lease: toLeaseTimes(leaseMs),
      maxPending: 0,
      endedTtlMs: 86_400_000,
      maxEnded: 1_000_000,
      maxDead: 100_000,
      maxDeadInlineBytes: 200_000_000,
    }),
  );
  const store = stack.use(
    createQdrantVectorStore({ url: double.url, collection: 'products', timeoutMs: 30_000, logger }),
  );
  // Two processes with one DATA_DIR, and so with one spool.
  const apis = [
    stack.use(await startApi(environment, folder.path, tally)),
    stack.use(await startApi(environment, folder.path, tally)),
  ] as const;
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
    urls: apis.map(({ url }) => url),
    ledger,
    streams: killsOnly ? MANY_STREAMS : FEW_STREAMS,
    random: random.fork('producer'),
    tally,
    ...pictures,
    latePicture: () => ({ image_url: `${hosts.late}/${randomUUID()}.png` }),
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
            ...apis.map(({ fault }) => [fault]),
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
  const audit = async () => {
    const faults = await auditQueue(redis.client, PREFIX);
    tally.count('audits of the queue while it works');
    for (const fault of faults) tally.find(`audit: ${fault}`);
  };
  const progress = setInterval(() => {
    options.progress(`${fleet.killed} of ${kills} kills, ${ledger.acceptedIds.size} jobs accepted`);
    // Redis is down at times.
    audit().catch(() => {});
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
  await untilQuiet(apis[0].url, queue, options.signal).catch((error: unknown) => tally.find(String(error)));
  options.signal.throwIfAborted();
  // What of the last kill is not back yet by now is lost, and will be found below.
  watching.abort();
  await watch;
  const parts = { ledger, queue, store, apiUrl: apis[0].url, redis: redis.client, prefix: PREFIX };
  const outcome = await check(parts, tally);

  const { progress: report, trials } = options;
  const enqueue = (productId: string, image: object) => enqueueAt(apis[1].url, productId, image);
  const trial: TrialParts = { redis, queue, leaseMs, tally, progress: report, enqueue };
  if (trials !== 'none') {
    await tryLimitedHost(trial, hosts.limited);
    await tryLongOutage(trial, hosts.slow);
  }
  await fleet.stop();
  if (trials === 'all') await tryHungStages(trial, environment, folder.path, pictures.path);
  if (trials !== 'none') await tryEndedRecords(trial);
  await audit();
  tally.count('requests that an image host turned away', hosts.turnedAway);
  for (const api of apis) await api.stop();
  // Requests that a killed process left half sent are its own; the others must be as Qdrant wants them.
  const violations = double.violations.filter((text) => /^(GET|PUT|POST|DELETE) /.test(text));
  for (const text of violations) tally.find(`Qdrant would refuse: ${text}`);
  const seconds = (performance.now() - startedAt) / 1_000;
  return { tally, ledger, recovery, kills: fleet.killed, outcome, seconds };
}

async function drawPictures(folder: string, limitedHost: string) {
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
  const limited = [1, 2].map((index) => ({ image_url: `${limitedHost}/${index}.png` }));
  const all: Record<string, string>[] = [...pictures, ...limited];
  return { pictures: all, brokenPicture, path: join(paths, '1.png') };
}

async function enqueueAt(url: string, productId: string, image: object): Promise<string> {
  return until('an accepted job', async () => {
    const response = await fetch(`${url}/queue/enqueue`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ product_id: productId, ...image }),
    });
    const { job_id: id } = (await response.json()) as { readonly job_id?: string };
    return id;
  });
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
