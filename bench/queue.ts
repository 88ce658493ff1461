import { randomUUID } from 'node:crypto';
import { parseArgs } from 'node:util';
import { Queue, Worker } from 'bullmq';
import { Redis } from 'ioredis';
import { pino } from 'pino';
import { toPointId } from '../src/catalog/product-image.ts';
import { parseRedisUrl } from '../src/config/redis-target.ts';
import type { ImageJobData, JobResult } from '../src/queue/job.ts';
import { type JobQueue, type NewJob, toLeaseTimes } from '../src/queue/port.ts';
import { createRedisQueue } from '../src/queue/redis/queue.ts';
import { type RedisServer, startRedis } from '../tests/support/redis-server.ts';
import { atLeast, median, report } from './support/report.ts';

const IN_FLIGHT = 500;
const BULK = 1_000;
/** Jobs a worker holds at once, on either side. */
const HELD = 100;
/** Jobs of the round that isn't counted. */
const WARM_UP = 5_000;
/** Claims under way at once, as in a worker that fetches ahead. */
const LANES = 4;
const RESULT: JobResult = { outcome: 'indexed', pointId: 'p', collection: 'c', model: 'm' };

/** What is measured, and how many times BullMQ's rate it should reach. */
export const CASES = {
  one: { name: `enqueue one by one, ${IN_FLIGHT} in flight`, target: 1.3 },
  bulk: { name: `enqueue ${BULK} per call`, target: 2 },
  finish: { name: `claim and finish empty jobs, ${HELD} held`, target: 2 },
} as const;
export type Case = keyof typeof CASES;
/** Jobs per second, and the processor time for each: a busy machine changes that less. */
interface Measured {
  readonly perSecond: number;
  readonly redisUs: number;
  /** Of this process and redis-server. */
  readonly cpuUs: number;
}
type Rates = Record<Case, Measured>;

/**
 * The queue on Redis compared with BullMQ: the same redis-server with AOF, the same payload, in turns, in one process.
 * Prints the medians of the rates, the median of the rounds' ratios, what redis-server worked per job, and the memory of
 * a waiting job.
 */
export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      jobs: { type: 'string', default: '20000' },
      rounds: { type: 'string', default: '5' },
      'memory-jobs': { type: 'string', default: '100000' },
    },
  });
  const [jobs, rounds, waiting] = [values.jobs, values.rounds, values['memory-jobs']].map(Number) as [
    number,
    number,
    number,
  ];
  // A rewrite of the file at any moment would slow down the side that is being measured.
  await using redis = await startRedis(['--auto-aof-rewrite-percentage', '0']);
  const [aof] = (await redis.client.config('GET', 'appendfsync')).slice(1);
  console.log(
    `${jobs} jobs per round, ${rounds} rounds, AOF appendfsync ${aof}, one redis-server for both\n`,
  );

  // Both are compiled by then.
  await measureVitrine(redis, Math.min(jobs, WARM_UP));
  await measureBullMq(redis, Math.min(jobs, WARM_UP));
  const ours: Rates[] = [];
  const theirs: Rates[] = [];
  for (let round = 0; round < rounds; round += 1) {
    // The second side finds a warmer machine: they take turns.
    const sides = [() => measureVitrine(redis, jobs), () => measureBullMq(redis, jobs)];
    if (round % 2 === 0) {
      ours.push(await (sides[0] as () => Promise<Rates>)());
      theirs.push(await (sides[1] as () => Promise<Rates>)());
    } else {
      theirs.push(await (sides[1] as () => Promise<Rates>)());
      ours.push(await (sides[0] as () => Promise<Rates>)());
    }
  }
  const table = (Object.keys(CASES) as Case[]).map((name) => {
    const [our, their] = [ours, theirs].map((all) => ({
      perSecond: median(all.map((rates) => rates[name].perSecond)),
      redisUs: median(all.map((rates) => rates[name].redisUs)),
      cpuUs: median(all.map((rates) => rates[name].cpuUs)),
    })) as [Measured, Measured];
    const { target } = CASES[name];
    // The two sides of a round ran one after the other: what else the machine did slowed down both.
    const ratio = median(
      ours.map((rates, round) => rates[name].perSecond / (theirs[round] as Rates)[name].perSecond),
    );
    return {
      case: CASES[name].name,
      'Vitrine, jobs/s': Math.round(our.perSecond),
      'BullMQ, jobs/s': Math.round(their.perSecond),
      ratio: Number(ratio.toFixed(2)),
      ...atLeast(ratio, target),
      'Redis µs/job': `${our.redisUs.toFixed(1)} : ${their.redisUs.toFixed(1)}`,
      'all µs/job': `${our.cpuUs.toFixed(0)} : ${their.cpuUs.toFixed(0)}`,
    };
  });
  report('queue', table);
  await printMemory(redis, waiting);
}

async function printMemory(redis: RedisServer, count: number): Promise<void> {
  const payload = Buffer.byteLength(JSON.stringify(toJobData(count)));
  const ours = await measureMemory(redis, async () => {
    await using queue = await openVitrine(redis);
    const jobs = Array.from({ length: count }, (_, n) => toJob(n));
    await inBulk(jobs, (part) => queue.enqueue(part));
  });
  const theirs = await measureMemory(redis, async () => {
    const queue = openBullMq(redis);
    const jobs = Array.from({ length: count }, (_, n) => ({ name: 'image', data: toJobData(n) }));
    await inBulk(jobs, (part) => queue.addBulk(part));
    await queue.close();
  });
  const beyond = (bytes: number) => Math.round(bytes / count - payload);
  console.log(`Redis memory per waiting job beyond its payload of ${payload} bytes, at ${count} jobs:`);
  console.log(`  Vitrine ${beyond(ours)} bytes (target < 1024), BullMQ ${beyond(theirs)} bytes`);
}

async function measureMemory(redis: RedisServer, fill: () => Promise<void>): Promise<number> {
  await redis.client.flushall('SYNC');
  const before = await readDataset(redis);
  await fill();
  const used = (await readDataset(redis)) - before;
  await redis.client.flushall('SYNC');
  return used;
}

/** What the data itself takes, without buffers of clients and of AOF. */
async function readDataset(redis: RedisServer): Promise<number> {
  const info = await redis.client.info('memory');
  const read = (name: string) => Number(new RegExp(`^${name}:(\\d+)`, 'm').exec(info)?.[1] ?? 0);
  return read('used_memory_dataset') + read('used_memory_overhead') - (await readBuffers(redis, read));
}

async function readBuffers(redis: RedisServer, read: (name: string) => number): Promise<number> {
  const clients = String(await redis.client.client('LIST'));
  const ofClients = [...clients.matchAll(/ tot-mem=(\d+)/g)].reduce(
    (sum, match) => sum + Number(match[1]),
    0,
  );
  return ofClients + read('mem_aof_buffer') + read('used_memory_startup');
}

export async function measureVitrine(redis: RedisServer, count: number): Promise<Rates> {
  await redis.client.flushall('SYNC');
  await using queue = await openVitrine(redis);
  const measure = (work: () => Promise<unknown>) => measureRate(redis, count, work);
  const jobs = Array.from({ length: count }, (_, n) => toJob(n));
  const one = await measure(() => inFlight(jobs, (job) => queue.enqueue([job])));
  await redis.client.flushall('SYNC');
  const bulk = await measure(() => inBulk(jobs, (part) => queue.enqueue(part)));
  const finishAll = async () => {
    for (;;) {
      const claim = await queue.claim({ workerId: 'w', claimId: randomUUID(), max: HELD / LANES });
      if (claim.jobs.length === 0) return;
      await queue.settle(
        claim.jobs.map(({ id, token }) => ({ id, token, kind: 'complete', result: RESULT, processingMs: 0 })),
      );
    }
  };
  const finish = await measure(() => Promise.all(Array.from({ length: LANES }, finishAll)));
  const { completed } = await queue.stats();
  if (completed !== count) throw new Error(`${completed} of ${count} jobs were completed`);
  return { one, bulk, finish };
}

export async function measureBullMq(redis: RedisServer, count: number): Promise<Rates> {
  await redis.client.flushall('SYNC');
  const queue = openBullMq(redis);
  const measure = (work: () => Promise<unknown>) => measureRate(redis, count, work);
  const jobs = Array.from({ length: count }, (_, n) => ({ name: 'image', data: toJobData(n) }));
  const one = await measure(() => inFlight(jobs, ({ name, data }) => queue.add(name, data)));
  await redis.client.flushall('SYNC');
  const bulk = await measure(() => inBulk(jobs, (part) => queue.addBulk(part)));
  const connection = new Redis(redis.port, '127.0.0.1', { maxRetriesPerRequest: null });
  const worker = new Worker(queue.name, async () => RESULT, {
    connection,
    concurrency: HELD,
    autorun: false,
  });
  const finish = await measure(async () => {
    let done = 0;
    const all = new Promise<void>((resolve) => {
      worker.on('completed', () => {
        done += 1;
        if (done === count) resolve();
      });
    });
    void worker.run();
    await all;
  });
  await worker.close();
  connection.disconnect();
  await queue.close();
  return { one, bulk, finish };
}

export async function openVitrine(redis: RedisServer): Promise<JobQueue> {
  const queue = createRedisQueue({
    target: parseRedisUrl(redis.url),
    prefix: 'bench',
    logger: pino({ level: 'silent' }),
    lease: toLeaseTimes(15_000),
    maxPending: 0,
    endedTtlMs: 24 * 3_600_000,
    maxEnded: 1_000_000,
    maxDead: 100_000,
    maxDeadInlineBytes: 200_000_000,
  });
  await queue.ping();
  return queue;
}

const openBullMq = (redis: RedisServer) =>
  new Queue('bench', { connection: { host: '127.0.0.1', port: redis.port } });

function toJobData(n: number): ImageJobData {
  return {
    kind: 'image',
    productId: `product-${n}`,
    imageId: 'main',
    image: { kind: 'url', url: `https://images.example.com/catalog/products/${n}/main.jpg` },
    product: {
      name: `Lamp number ${n}, brass with a linen shade`,
      category: 'lamps',
      brand: 'Lumen',
      price: 59.9,
      currency: 'EUR',
      tags: ['brass', 'linen'],
    },
  };
}

export function toJob(n: number): NewJob {
  const data = toJobData(n);
  const key = toPointId(data.productId, data.imageId);
  return { id: randomUUID(), key, data, priority: 'normal', maxAttempts: 3, version: null };
}

async function measureRate(
  redis: RedisServer,
  count: number,
  work: () => Promise<unknown>,
): Promise<Measured> {
  const redisBefore = await readCpuUs(redis);
  const ownBefore = process.cpuUsage();
  const start = performance.now();
  await work();
  const perSecond = (count / (performance.now() - start)) * 1_000;
  const { user, system } = process.cpuUsage(ownBefore);
  const redisUs = ((await readCpuUs(redis)) - redisBefore) / count;
  return { perSecond, redisUs, cpuUs: redisUs + (user + system) / count };
}

/** Processor time of redis-server so far. */
async function readCpuUs(redis: RedisServer): Promise<number> {
  const info = await redis.client.info('cpu');
  const read = (name: string) => Number(new RegExp(`^${name}:([\\d.]+)`, 'm').exec(info)?.[1] ?? 0);
  return (read('used_cpu_user') + read('used_cpu_sys')) * 1_000_000;
}

async function inFlight<T>(jobs: readonly T[], enqueue: (job: T) => Promise<unknown>): Promise<void> {
  const rest = jobs.values();
  const lane = async () => {
    for (const job of rest) await enqueue(job);
  };
  await Promise.all(Array.from({ length: IN_FLIGHT }, lane));
}

export async function inBulk<T>(jobs: readonly T[], enqueue: (part: T[]) => Promise<unknown>): Promise<void> {
  for (let first = 0; first < jobs.length; first += BULK) await enqueue(jobs.slice(first, first + BULK));
}
