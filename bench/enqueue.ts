import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { parseArgs, promisify } from 'node:util';
import { Queue } from 'bullmq';
import { createApiKey, toKeyEntry } from '../src/config/api-keys.ts';
import { type RedisServer, startRedis } from '../tests/support/redis-server.ts';
import { toJobBody } from './support/job-body.ts';
import type { LoadOptions, LoadResult } from './support/load.ts';
import { atLeast, atMost, median, percentile, type Row, report } from './support/report.ts';
import { type MeasuredServer, readCpuMs, readRssBytes, startServer } from './support/server.ts';

const CONNECTIONS = 64;
const BATCH = 500;
/** Batches under way at once, on either side. */
const BATCH_LANES = 4;
const MILLION = 1_000_000;
const MEMORY_LIMIT_MB = 300;

interface Measured extends LoadResult {
  /** Of the server, per request. */
  readonly cpuUs: number;
}

/**
 * The enqueue routes of an API process with keys and rate limits, on Redis with AOF: single jobs compared with a bare
 * Hono route that stores nothing, and batches compared with BullMQ's addBulk, in turns. The load comes from a process
 * of its own.
 */
export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      rounds: { type: 'string', default: '5' },
      seconds: { type: 'string', default: '4' },
      million: { type: 'boolean', default: false },
      /** A folder for profiles of the API process. */
      profile: { type: 'string' },
    },
  });
  const [rounds, seconds] = [Number(values.rounds), Number(values.seconds)];
  await using redis = await startRedis(['--auto-aof-rewrite-percentage', '0']);
  const nodeArgs = values.profile === undefined ? [] : ['--cpu-prof', `--cpu-prof-dir=${values.profile}`];
  await using api = await startApi(redis, nodeArgs);
  await using bare = await startServer(BARE_ROUTE, {});
  const { headers } = api;
  if (values.million) {
    report('enqueue-million', [await measureMillion(redis, api, headers)]);
    return;
  }
  report('enqueue', [
    ...(await measureSingle(redis, api, bare, headers, { rounds, seconds })),
    await measureBatches(redis, api, headers, { rounds, seconds }),
  ]);
}

export const BARE_ROUTE = 'bench/support/bare-route.ts';

/** An API process with a key that the headers carry, and with the rate limits that are the default. */
export async function startApi(
  redis: RedisServer,
  nodeArgs: readonly string[] = [],
): Promise<MeasuredServer & { readonly headers: Readonly<Record<string, string>> }> {
  const { key, entry } = createApiKey('bench', ['enqueue']);
  const environment = { REDIS_URL: redis.url, API_KEYS: toKeyEntry(entry), MODEL: 'builtin' };
  const server = await startServer('src/main.ts', environment, nodeArgs);
  return { ...server, headers: { Authorization: `Bearer ${key}` } };
}

interface Extent {
  readonly rounds: number;
  readonly seconds: number;
}

async function measureSingle(
  redis: RedisServer,
  api: MeasuredServer,
  bare: MeasuredServer,
  headers: Readonly<Record<string, string>>,
  { rounds, seconds }: Extent,
): Promise<readonly Row[]> {
  const ours: Measured[] = [];
  const theirs: Measured[] = [];
  const load = toSingleLoad(headers, seconds * 1_000);
  // Compiled by then.
  for (const server of [api, bare]) await measureLoad(server, { ...load, measureMs: 3_000 });
  for (let round = 0; round < rounds; round++) {
    await redis.client.flushall('SYNC');
    ours.push(await measureLoad(api, load));
    theirs.push(await measureLoad(bare, load));
  }
  const of = (measured: readonly Measured[], value: keyof Measured) =>
    median(measured.map((each) => each[value]));
  const ratioOf = (value: keyof Measured) =>
    median(ours.map((each, round) => each[value] / (theirs[round]?.[value] ?? Number.NaN)));
  const perSecond = of(ours, 'requestsPerSecond');
  const rate = ratioOf('requestsPerSecond');
  const p99 = ratioOf('p99Ms');
  const base = { case: `one job, ${CONNECTIONS} connections` };
  return [
    {
      ...base,
      measured: 'requests per second',
      ...toSides(ours, theirs, 'requestsPerSecond', 0),
      ...atLeast(perSecond, 5_000),
    },
    { ...base, measured: 'ratio of the rates', ratio: toFixed(rate, 2), ...atLeast(rate, 0.35) },
    {
      ...base,
      measured: 'p99, ms',
      ...toSides(ours, theirs, 'p99Ms', 1),
      ratio: toFixed(p99, 2),
      ...atMost(p99, 5),
    },
    {
      ...base,
      measured: 'server, µs of processor',
      ...toSides(ours, theirs, 'cpuUs', 0),
      ratio: toFixed(ratioOf('cpuUs'), 2),
    },
  ];

  function toSides(a: readonly Measured[], b: readonly Measured[], value: keyof Measured, digits: number) {
    return { Vitrine: toFixed(of(a, value), digits), other: toFixed(of(b, value), digits) };
  }
}

async function measureBatches(
  redis: RedisServer,
  api: MeasuredServer,
  headers: Readonly<Record<string, string>>,
  { rounds, seconds }: Extent,
): Promise<Row> {
  const ours: number[] = [];
  const theirs: number[] = [];
  for (let round = 0; round < rounds; round++) {
    await redis.client.flushall('SYNC');
    const { requestsPerSecond } = await measureLoad(api, {
      path: '/queue/enqueue/batch',
      headers: { ...headers, 'Content-Type': 'application/x-ndjson' },
      ...{ connections: BATCH_LANES, jobs: BATCH, warmUpMs: 1_000, measureMs: seconds * 1_000 },
    });
    ours.push(requestsPerSecond * BATCH);
    await redis.client.flushall('SYNC');
    theirs.push(await measureBullMq(redis, seconds * 1_000));
  }
  const ratio = median(ours.map((rate, round) => rate / (theirs[round] ?? Number.NaN)));
  return {
    case: `NDJSON of ${BATCH}, other: addBulk of BullMQ in-process`,
    measured: 'jobs per second',
    Vitrine: Math.round(median(ours)),
    other: Math.round(median(theirs)),
    ratio: toFixed(ratio, 2),
    ...atLeast(ratio, 1),
  };
}

/** Jobs per second of addBulk in this process. */
async function measureBullMq(redis: RedisServer, measureMs: number): Promise<number> {
  const queue = new Queue('bench', { connection: { host: '127.0.0.1', port: redis.port } });
  let next = 0;
  let added = 0;
  async function addUntil(end: number): Promise<void> {
    while (performance.now() < end) {
      const jobs = Array.from({ length: BATCH }, () => ({ name: 'image', data: toJobBody(next++) }));
      await queue.addBulk(jobs);
      added += BATCH;
    }
  }
  const addAll = (ms: number) => {
    const end = performance.now() + ms;
    return Promise.all(Array.from({ length: BATCH_LANES }, () => addUntil(end)));
  };
  await addAll(500);
  added = 0;
  const from = performance.now();
  await addAll(measureMs);
  const seconds = (performance.now() - from) / 1000;
  await queue.close();
  return added / seconds;
}

/** A million jobs as NDJSON, and the most memory that the API took meanwhile. */
async function measureMillion(
  redis: RedisServer,
  api: MeasuredServer,
  headers: Readonly<Record<string, string>>,
): Promise<Row> {
  const memory: number[] = [];
  const timer = setInterval(() => memory.push(readRssBytes(api.process) / 1e6), 200);
  const from = performance.now();
  let next = 0;
  const lane = async () => {
    while (next < MILLION) {
      const first = next;
      next += BATCH;
      const lines = Array.from({ length: BATCH }, (_, index) => JSON.stringify(toJobBody(first + index)));
      const reply = await fetch(`${api.url}/queue/enqueue/batch`, {
        method: 'POST',
        headers: { ...headers, 'Content-Type': 'application/x-ndjson' },
        body: lines.join('\n'),
      });
      if (reply.status !== 202) throw new Error(`The server answered ${reply.status}: ${await reply.text()}`);
      await reply.arrayBuffer();
    }
  };
  await Promise.all(Array.from({ length: BATCH_LANES }, lane));
  clearInterval(timer);
  const seconds = (performance.now() - from) / 1000;
  const waiting = await redis.client.zcard('{vitrine}:queued:normal');
  const most = percentile(memory, 1);
  return {
    case: `${MILLION} jobs as NDJSON of ${BATCH}`,
    'jobs that wait': waiting,
    'jobs per second': Math.round(MILLION / seconds),
    'memory of the API at most, MB': Math.round(most),
    ...atMost(most, MEMORY_LIMIT_MB),
  };
}

/** Single jobs over many connections. */
export function toSingleLoad(
  headers: Readonly<Record<string, string>>,
  measureMs: number,
): Omit<LoadOptions, 'url'> {
  return {
    path: '/queue/enqueue',
    headers: { ...headers, 'Content-Type': 'application/json' },
    connections: CONNECTIONS,
    jobs: 1,
    warmUpMs: 1_000,
    measureMs,
  };
}

export async function measureLoad(server: MeasuredServer, load: Omit<LoadOptions, 'url'>): Promise<Measured> {
  const options: LoadOptions = { url: server.url, ...load };
  const cpuBefore = readCpuMs(server.process);
  const { stdout } = await promisify(execFile)(process.execPath, [
    join(import.meta.dirname, 'support', 'load.ts'),
    JSON.stringify(options),
  ]);
  const result = JSON.parse(stdout) as LoadResult;
  const cpuUs = ((readCpuMs(server.process) - cpuBefore) * 1_000) / result.requests;
  return { ...result, cpuUs };
}

const toFixed = (value: number, digits: number): number => Number(value.toFixed(digits));
