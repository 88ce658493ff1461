import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import type { ClaimedJob, JobQueue } from '../src/queue/port.ts';
import { createTempFolder } from '../tests/support/context.ts';
import { complete } from '../tests/support/jobs.ts';
import { startProgram } from '../tests/support/program.ts';
import { type RedisServer, startRedis } from '../tests/support/redis-server.ts';
import { until } from '../tests/support/until.ts';
import { inBulk, openVitrine, toJob } from './queue.ts';
import { atLeast, atMost, median, report } from './support/report.ts';
import { BATCH_MS } from './support/stub-worker.ts';

const WORKERS = [1, 2, 4, 8];
const BATCH = 8;
/** Of one worker that is never kept waiting. */
const IDEAL_PER_SECOND = (BATCH / BATCH_MS) * 1_000;
const WARM_UP_S = 2;
const CLAIM = 25;

/**
 * How the rate grows with the number of worker processes when only the queue could hold them up, and what a claim costs
 * Redis when few and when many jobs wait.
 */
export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      seconds: { type: 'string', default: '8' },
      few: { type: 'string', default: '1000' },
      many: { type: 'string', default: '1000000' },
      rounds: { type: 'string', default: '9' },
    },
  });
  await measureWorkers(Number(values.seconds));
  await measureClaims(Number(values.few), Number(values.many), Number(values.rounds));
}

async function measureWorkers(seconds: number): Promise<void> {
  await using redis = await startRedis(['--auto-aof-rewrite-percentage', '0']);
  const rates: number[] = [];
  for (const count of WORKERS) rates.push(await measureRate(redis, count, seconds));
  const [one = Number.NaN] = rates;
  const rows = WORKERS.map((count, index) => {
    const rate = rates[index] ?? Number.NaN;
    const share = rate / (count * one);
    return {
      'worker processes': count,
      'jobs per second': Math.round(rate),
      'of what the embedders could do': toFixed(rate / (count * IDEAL_PER_SECOND)),
      'of linear': toFixed(share),
      ...(count === Math.max(...WORKERS) && atLeast(share, 0.95)),
    };
  });
  console.log(`Batches of ${BATCH} take ${BATCH_MS} ms, all else but the queue no time; ${seconds} s each\n`);
  report('scale', rows);
}

/** Jobs per second of that many worker processes, once all of them work. */
async function measureRate(redis: RedisServer, count: number, seconds: number): Promise<number> {
  await redis.client.flushall('SYNC');
  await using stack = new AsyncDisposableStack();
  const queue = stack.use(await openVitrine(redis));
  const folder = stack.use(await createTempFolder());
  await queue.pause();
  const jobs = Math.ceil(count * IDEAL_PER_SECOND * (seconds + 2 * WARM_UP_S));
  await inBulk(
    Array.from({ length: jobs }, (_, n) => toJob(n)),
    (part) => queue.enqueue(part),
  );
  const environment = {
    ...{ DATA_DIR: folder.path, REDIS_URL: redis.url, QUEUE_PREFIX: 'bench', MODEL: 'builtin' },
    ...{ BATCH_SIZE: `${BATCH}`, SHUTDOWN_GRACE_MS: '1000' },
  };
  const workers = Array.from({ length: count }, () =>
    stack.use(startProgram('bench/support/stub-worker.ts', environment)),
  );
  await until('the workers', async () => {
    const states = (await queue.workers()).map(({ state }) => state);
    return states.filter((state) => state === 'idle').length === count || undefined;
  });
  await queue.resume();
  await sleep(WARM_UP_S * 1_000);
  const [before, from] = [(await queue.stats()).completed, performance.now()];
  await sleep(seconds * 1_000);
  const [after, to] = [(await queue.stats()).completed, performance.now()];
  await Promise.all(workers.map((worker) => worker.stop()));
  return ((after - before) / (to - from)) * 1_000;
}

async function measureClaims(few: number, many: number, rounds: number): Promise<void> {
  // What the file costs has nothing to do with the claims.
  await using redis = await startRedis(['--appendonly', 'no']);
  await using queue = await openVitrine(redis);
  const costs = [];
  let waiting = 0;
  for (const count of [few, many]) {
    const costsUs: number[] = [];
    for (let round = 0; round <= rounds; round++) {
      const missing = Array.from({ length: count - waiting }, () => toJob(++made));
      await inBulk(missing, (part) => queue.enqueue(part));
      const { costUs, claimed } = await measureClaim(redis, queue, Math.floor(few / 2 / CLAIM));
      waiting = count - claimed;
      // The first round warms up.
      if (round > 0) costsUs.push(costUs);
    }
    costs.push(median(costsUs));
  }
  const [cheap = Number.NaN, dear = Number.NaN] = costs;
  const ratio = dear / cheap;
  const row = (count: number, costUs: number) => ({
    'jobs that wait': count,
    [`processor time of redis-server per claim of ${CLAIM}, µs`]: Math.round(costUs),
  });
  console.log(`\nMedians of ${rounds} rounds\n`);
  report('scale-claims', [
    row(few, cheap),
    { ...row(many, dear), ratio: toFixed(ratio), ...atMost(ratio, 1.3) },
  ]);
}

let made = 0;

async function measureClaim(redis: RedisServer, queue: JobQueue, claims: number) {
  const before = await readMainThreadUs(redis);
  const jobs: ClaimedJob[] = [];
  for (let n = 0; n < claims; n++) {
    const claim = await queue.claim({ workerId: 'w', claimId: randomUUID(), max: CLAIM });
    jobs.push(...claim.jobs);
  }
  const costUs = ((await readMainThreadUs(redis)) - before) / claims;
  if (jobs.length !== claims * CLAIM) throw new Error(`${jobs.length} jobs were claimed in ${claims} claims`);
  await queue.settle(jobs.map((job) => complete(job)));
  return { costUs, claimed: jobs.length };
}

async function readMainThreadUs(redis: RedisServer): Promise<number> {
  const info = await redis.client.info('cpu');
  const read = (name: string) => Number(new RegExp(`^${name}:([\\d.]+)`, 'm').exec(info)?.[1] ?? 0);
  return (read('used_cpu_user_main_thread') + read('used_cpu_sys_main_thread')) * 1_000_000;
}

const toFixed = (value: number): number => Number(value.toFixed(2));
