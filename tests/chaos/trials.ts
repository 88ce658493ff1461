import { randomUUID } from 'node:crypto';
import { setTimeout as delay } from 'node:timers/promises';
import { pino } from 'pino';
import { ENDED_STATUSES } from '../../src/queue/job.ts';
import { type JobQueue, type JobView, toLeaseTimes } from '../../src/queue/port.ts';
import { createRedisQueue } from '../../src/queue/redis/queue.ts';
import { newJob, result } from '../support/jobs.ts';
import { startProgram } from '../support/program.ts';
import type { RedisServer } from '../support/redis-server.ts';
import { until } from '../support/until.ts';
import type { Tally } from './checks/tally.ts';

/**
 * What only shows while nobody is killed. Each trial enqueues jobs of its own, and notes every one that was lost, that
 * failed, or that counts a crash.
 */
export interface TrialParts {
  readonly redis: RedisServer;
  readonly queue: JobQueue;
  readonly leaseMs: number;
  readonly tally: Tally;
  readonly progress: (line: string) => void;
  /** Enqueues one image, by a field of the API's request, and returns the job's id. */
  enqueue(productId: string, image: Readonly<Record<string, string>>): Promise<string>;
}

/** A job of a slow host must not be claimed again and again. */
const MAX_CLAIMS = 5;

/** Redis is down for longer than the lease, while living workers hold jobs. */
export async function tryLongOutage(parts: TrialParts, slowHost: string): Promise<void> {
  const { redis, queue, leaseMs, tally, progress } = parts;
  progress('trial: Redis is down for longer than the lease');
  tally.count('Redis: down for longer than the lease');
  const ids = await enqueueMany(parts, 'outage', 16, (index) => ({ image_url: `${slowHost}/${index}.png` }));
  await until('jobs that run', async () => ((await queue.stats()).processing >= 4 ? true : undefined));
  await redis.kill();
  await delay(leaseMs * 1.5);
  await redis.restart();
  await expectAllCompleted(parts, 'outage', ids);
}

/** An image host allows much less than the workers ask for: its images come late, and none is given up for it. */
export async function tryLimitedHost(parts: TrialParts, limitedHost: string): Promise<void> {
  const { queue, tally, progress } = parts;
  progress('trial: an image host that allows a few requests per second');
  tally.count('image host: a few requests per second');
  const ids = await enqueueMany(parts, 'limited', 24, (index) => ({
    image_url: `${limitedHost}/${index}.png`,
  }));
  await expectAllCompleted(parts, 'limited', ids);
  const claims = (await Promise.all(ids.map((id) => queue.status(id)))).map(
    (view) => view?.history.length ?? 0,
  );
  const most = Math.max(...claims);
  if (most > MAX_CLAIMS) tally.find(`trial limited: a job was claimed ${most} times`);
}

/**
 * One worker whose file reads never return, and one whose inference never does, alone with their jobs. The first can
 * only hand back what it holds and end; the second replaces its thread.
 */
export async function tryHungStages(
  parts: TrialParts,
  environment: Readonly<Record<string, string>>,
  folder: string,
  picturePath: string,
): Promise<void> {
  const { tally, progress } = parts;
  progress('trial: a worker whose reads hang, and one whose inference hangs');
  await using stack = new AsyncDisposableStack();
  const start = (stage: string) => {
    tally.count(`worker: ${stage} hangs`);
    const hook = new URL(`./processes/hung-stage.ts?stage=${stage}`, import.meta.url).href;
    return stack.use(
      startProgram('workers/main.ts', environment, [], { nodeArgs: ['--import', hook], folder }),
    );
  };
  const [reader, embedder] = [start('fetching'), start('embedding')];
  for (const worker of [reader, embedder])
    await until('a worker', () => (worker.output.includes('"worker ready"') ? true : undefined));
  const ids = await enqueueMany(parts, 'hung', 24, () => ({ image_path: picturePath }));
  const code = await Promise.race([reader.ended, delay(90_000, 'late', { ref: false })]);
  if (code !== 1) tally.find(`a worker whose reads hang ended with ${code}: ${reader.output.slice(-2_000)}`);
  await expectAllCompleted(parts, 'hung', ids);
  tally.readLog(embedder.output);
  const stopped = await embedder.stop();
  if (stopped !== 0) tally.find(`a worker whose thread was replaced ended with ${stopped}`);
}

/** Many times more jobs than Redis has memory for end, of which only so many may be kept. */
export async function tryEndedRecords({ redis, tally, progress }: TrialParts): Promise<void> {
  progress('trial: more ended records than Redis has memory for');
  tally.count('Redis: full of ended records');
  const [kept, batch, batches, headroom] = [500, 500, 60, 8_000_000];
  await using queue = await createRedisQueue({
    target: { kind: 'single', options: { host: '127.0.0.1', port: redis.port, db: 0 } },
    prefix: 'ended',
    logger: pino({ level: 'silent' }),
    lease: toLeaseTimes(15_000),
    maxPending: 0,
    endedTtlMs: 86_400_000,
    maxEnded: kept,
    maxDead: kept,
    maxDeadInlineBytes: 1_000_000,
  });
  const memory = /used_memory:(\d+)/.exec(await redis.client.info('memory'));
  await redis.client.config('SET', 'maxmemory', String(Number(memory?.[1]) + headroom));
  try {
    for (let round = 0; round < batches; round++) {
      const jobs = Array.from({ length: batch }, (_, index) => newJob(`ended-${round}-${index}`));
      await queue.enqueue(jobs);
      const claimed = await queue.claim({ workerId: 'trial', claimId: randomUUID(), max: batch });
      await queue.settle(
        claimed.jobs.map(({ id, token }) => ({ id, token, kind: 'complete', result, processingMs: 1 })),
      );
      await queue.reap();
    }
    const { total } = await queue.list({ status: 'completed', limit: 1 });
    if (total > kept + batch) tally.find(`${total} ended records are kept instead of ${kept}`);
    tally.count('ended records dropped', batches * batch - total);
  } catch (error) {
    tally.find(`ended records fill the memory: ${String(error)}`);
  } finally {
    await redis.client.config('SET', 'maxmemory', '0');
  }
}

async function enqueueMany(
  { enqueue }: TrialParts,
  name: string,
  count: number,
  toImage: (index: number) => Readonly<Record<string, string>>,
): Promise<readonly string[]> {
  const ids: string[] = [];
  for (let index = 0; index < count; index++) ids.push(await enqueue(`${name}-${index}`, toImage(index)));
  return ids;
}

async function expectAllCompleted({ queue, tally }: TrialParts, name: string, ids: readonly string[]) {
  const readViews = () => Promise.all(ids.map((id) => queue.status(id)));
  const hasEnded = (view: JobView | null) => view === null || ENDED_STATUSES.includes(view.status);
  await until(
    `the jobs of the trial ${name}`,
    async () => {
      const views = await readViews().catch(() => null);
      return views?.every(hasEnded) ? true : undefined;
    },
    180_000,
  ).catch((error: unknown) => tally.find(String(error)));
  for (const view of await readViews()) {
    if (view?.status !== 'completed')
      tally.find(`trial ${name}: a job is ${view?.status}: ${view?.lastError?.code}`);
    const crashed = view?.history.some(({ outcome }) => outcome === 'crashed') ?? false;
    if (view !== null && (view.crashes > 0 || crashed))
      tally.find(`trial ${name}: job ${view.id} counts ${view.crashes} crashes, but no worker was killed`);
  }
}
