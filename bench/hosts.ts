import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { parseArgs } from 'node:util';
import { pino } from 'pino';
import { toPointId } from '../src/catalog/product-image.ts';
import { parseConfig } from '../src/config/config.ts';
import { type Context, createContext } from '../src/context.ts';
import type { NewJob } from '../src/queue/port.ts';
import { createTempFolder } from '../tests/support/context.ts';
import { drawImage } from '../tests/support/images.ts';
import { newJob } from '../tests/support/jobs.ts';
import { startRedis } from '../tests/support/redis-server.ts';
import { createWorker } from '../workers/worker.ts';

/**
 * Image hosts that allow only some requests per second and answer the others with 429 and `Retry-After: 1`: how near to
 * the allowed rate their images are indexed, and whether they hold up the images of others.
 */
export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      redis: { type: 'boolean', default: false },
      allowed: { type: 'string', default: '20' },
      limited: { type: 'string', default: '600' },
      front: { type: 'string', default: '20000' },
      others: { type: 'string', default: '2000' },
    },
  });
  const perSecond = Number(values.allowed);
  const picture = await drawImage(1);
  await using limited = await startHost(picture, perSecond);
  await using open = await startHost(picture, Number.POSITIVE_INFINITY);
  await using redis = values.redis ? await startRedis() : null;
  console.log(
    `Queue on ${redis === null ? 'SQLite' : 'Redis'}; the limited host allows ${perSecond} per second\n`,
  );
  const environment = redis === null ? {} : { REDIS_URL: redis.url };

  const count = Number(values.limited);
  const alone = await index(environment, toJobs(limited, count), count);
  const ideal = count / perSecond;
  console.log(`${count} images of the limited host: ${alone.completed} completed, ${alone.dead} dead`);
  console.log(`  ${(alone.seconds / ideal).toFixed(2)} times the ${ideal} s that the host allows at best`);
  console.log(`  at most ${Math.max(...limited.asked.values())} requests per image (target ≤ 5)`);

  const others = toJobs(open, Number(values.others));
  const quick = await index(environment, others, others.length, open);
  const behind = await index(
    environment,
    [...toJobs(limited, Number(values.front)), ...others],
    others.length,
    open,
  );
  console.log(`${others.length} images of another host, behind ${values.front} of the limited one:`);
  console.log(`  ${(behind.seconds / quick.seconds).toFixed(2)} times as long as alone (target ≤ 1.5)`);
}

export interface Host extends AsyncDisposable {
  readonly url: string;
  /** Requests per path. */
  readonly asked: ReadonlyMap<string, number>;
  /** Pictures that were sent since the last reset. */
  readonly served: { count: number };
}

async function startHost(picture: Buffer, perSecond: number): Promise<Host> {
  const asked = new Map<string, number>();
  const served = { count: 0 };
  let [windowStart, inWindow] = [0, 0];
  const server = createServer((request, response) => {
    const path = request.url ?? '';
    asked.set(path, (asked.get(path) ?? 0) + 1);
    const now = performance.now();
    if (now - windowStart >= 1_000) [windowStart, inWindow] = [now, 0];
    inWindow += 1;
    if (inWindow > perSecond) {
      response.writeHead(429, { 'Retry-After': '1' }).end();
      return;
    }
    served.count += 1;
    response.writeHead(200, { 'Content-Type': 'image/png' }).end(picture);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    asked,
    served,
    [Symbol.asyncDispose]: () => stop(server),
  };
}

function stop(server: Server): Promise<void> {
  server.closeAllConnections();
  return new Promise((resolve) => server.close(() => resolve()));
}

export function toJobs(host: Pick<Host, 'url'>, count: number): NewJob[] {
  return Array.from({ length: count }, (_, n) => {
    const productId = `${host.url}-${n}`;
    return { ...newJob(productId, { url: `${host.url}/${n}.png` }), key: toPointId(productId, 'main') };
  });
}

interface Run {
  readonly seconds: number;
  readonly completed: number;
  readonly dead: number;
}

/** Indexes the jobs with one worker; ends when all have ended, or when the given host has served that many. */
export async function index(
  environment: Readonly<Record<string, string>>,
  jobs: readonly NewJob[],
  count: number,
  until?: Host,
): Promise<Run> {
  await using folder = await createTempFolder();
  const config = parseConfig({
    DATA_DIR: folder.path,
    MODEL: 'builtin',
    IMAGE_ALLOWED_HOSTS: '127.0.0.1',
    QUEUE_PREFIX: `bench-${Math.random().toString(36).slice(2)}`,
    ...environment,
  });
  await using context = await createContext(config, { logger: pino({ level: 'silent' }) });
  if (until !== undefined) until.served.count = 0;
  // Distinct ids per run: the same jobs are enqueued twice.
  for (let first = 0; first < jobs.length; first += 500) {
    await context.queue.enqueue(jobs.slice(first, first + 500));
  }
  await context.embedder.start();
  const worker = createWorker(context);
  const startedAt = performance.now();
  const working = worker.run();
  const run = await whenDone(context, count, startedAt, until);
  worker.stop();
  await working;
  return run;
}

async function whenDone(
  { queue }: Context,
  count: number,
  startedAt: number,
  until: Host | undefined,
): Promise<Run> {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, 50));
    if (until !== undefined && until.served.count < count) continue;
    const { completed, dead } = await queue.stats();
    const run = { seconds: (performance.now() - startedAt) / 1_000, completed, dead };
    if (until !== undefined || completed + dead >= count) return run;
  }
}
