import type { Redis } from 'ioredis';
import { ENDED_STATUSES, type JobStatus } from '../../src/queue/job.ts';
import type { JobQueue } from '../../src/queue/port.ts';
import type { VectorStore } from '../../src/vectors/port.ts';
import { findPointFaults, type JobEnd, type Ledger } from './ledger.ts';
import type { Tally } from './tally.ts';

export interface Outcome {
  readonly accepted: number;
  readonly completed: number;
  readonly dead: number;
  /** Of the dead: innocent ones whose workers were killed three times. */
  readonly poison: number;
  readonly cancelled: number;
  readonly lost: readonly string[];
  readonly points: number;
}

/** After quiescence: has every accepted job ended, once, and does the store hold what it should? */
export async function check(
  parts: {
    readonly ledger: Ledger;
    readonly queue: JobQueue;
    readonly store: VectorStore;
    readonly apiUrl: string;
    readonly redis: Redis;
    readonly prefix: string;
  },
  tally: Tally,
): Promise<Outcome> {
  const views = await readJobs(parts);
  const outcome = checkJobs(parts.ledger, views, tally);
  const points = await checkPoints(parts.ledger, parts.store, views, tally);
  await parts.queue.reap();
  await checkKeys(parts.redis, parts.prefix, tally);
  const { mended, recovered, poisoned } = await parts.queue.cleanup();
  if (mended + recovered + poisoned > 0)
    tally.find(`cleanup had ${mended + recovered + poisoned} jobs to mend`);
  return { ...outcome, points };
}

/** As the API tells it; the queue itself is asked first, because it is quicker. */
async function readJobs(parts: {
  readonly queue: JobQueue;
  readonly ledger: Ledger;
  readonly apiUrl: string;
}): Promise<ReadonlyMap<string, JobEnd>> {
  const views = new Map<string, JobEnd>();
  for (const id of parts.ledger.acceptedIds) {
    const view = await parts.queue.status(id);
    if (view !== null) {
      views.set(id, { status: view.status, errorCode: view.lastError?.code });
      continue;
    }
    // Cancelled before it ever reached the queue: only the spool knows it.
    const response = await fetch(`${parts.apiUrl}/queue/status/${id}`);
    const { status } = (await response.json()) as { readonly status: JobStatus };
    if (response.ok) views.set(id, { status, errorCode: undefined });
  }
  return views;
}

function checkJobs(
  ledger: Ledger,
  views: ReadonlyMap<string, JobEnd>,
  tally: Tally,
): Omit<Outcome, 'points'> {
  const lost = [...ledger.acceptedIds].filter((id) => {
    const view = views.get(id);
    return view === undefined || !ENDED_STATUSES.includes(view.status);
  });
  for (const id of lost) tally.find(`lost: job ${id} is ${views.get(id)?.status ?? 'unknown'}`);
  for (const id of ledger.cancelledIds) {
    const status = views.get(id)?.status;
    if (status !== 'cancelled') tally.find(`job ${id} was cancelled, and is ${status ?? 'unknown'}`);
  }
  const count = (status: JobStatus) => [...views.values()].filter((view) => view.status === status).length;
  const poison = [...views.values()].filter(
    ({ status, errorCode }) => status === 'failed' && errorCode === 'job_poison',
  ).length;
  return {
    accepted: ledger.acceptedIds.size,
    completed: count('completed'),
    dead: count('failed'),
    poison,
    cancelled: count('cancelled'),
    lost,
  };
}

async function checkPoints(
  ledger: Ledger,
  store: VectorStore,
  views: ReadonlyMap<string, JobEnd>,
  tally: Tally,
): Promise<number> {
  let expected = 0;
  for (const [productId, images] of Map.groupBy(ledger.images, (image) => image.productId)) {
    const points = await store.getProduct(productId);
    expected += points.length;
    for (const image of images) {
      const own = points.filter(({ payload }) => payload.imageId === image.imageId);
      for (const fault of findPointFaults(image, own, views)) tally.find(fault);
    }
  }
  const count = await store.count();
  if (count !== expected) tally.find(`the store has ${count} points, but ${expected} of known products`);
  return count;
}

/** Reads the keys themselves: nothing waits, each ended job is in one place, and all else expires. */
async function checkKeys(redis: Redis, prefix: string, tally: Tally): Promise<void> {
  const key = (name: string) => `{${prefix}}:${name}`;
  const kept = ['jobs', 'data', 'meta', 'rates', 'ended', 'dead', 'dead-codes', 'absorbed', 'workers']
    // A claim is remembered for as long as its first leases would have held.
    .concat('claims', 'claims-due')
    .map(key);
  const keys: string[] = [];
  for await (const part of redis.scanStream({ count: 1_000 })) keys.push(...(part as string[]));
  for (const name of keys.filter((each) => !kept.includes(each))) {
    const ttlMs = await redis.pttl(name);
    // −2: it went while we looked.
    if (ttlMs === -1) tally.find(`the key ${name} belongs to nothing, and stays`);
  }

  const [claims, remembered] = [await redis.hlen(key('claims')), await redis.zcard(key('claims-due'))];
  if (claims !== remembered) tally.find(`${claims} claims are kept, but ${remembered} will be forgotten`);
  const overdue = await redis.zcount(key('claims-due'), '-inf', Date.now() - 1_000);
  if (overdue > 0) tally.find(`${overdue} claims stay after their time`);

  const places = new Map<string, string[]>();
  const dead = new Set(await redis.zrange(key('dead'), '0', '-1'));
  for (const [place, ids] of [
    ['ended', await redis.lrange(key('ended'), 0, -1)],
    ['dead', dead],
    ['absorbed', await redis.lrange(key('absorbed'), 0, -1)],
  ] as const) {
    for (const id of ids) places.set(id, [...(places.get(id) ?? []), place]);
  }
  const jobs = await redis.hkeys(key('jobs'));
  for (const id of jobs) {
    const found = places.get(id) ?? [];
    if (found.length !== 1) tally.find(`job ${id} is in ${found.length} places: ${found.join(', ')}`);
  }
  if (places.size !== jobs.length)
    tally.find(`${places.size} jobs are in places, but ${jobs.length} are known`);

  // Small payloads stand with their job; a large one is kept apart, for as long as a dead letter may come back.
  const payloads = await redis.hkeys(key('data'));
  for (const id of payloads.filter((each) => !dead.has(each))) tally.find(`the payload of job ${id} stays`);
  const codes = await redis.zcard(key('dead-codes'));
  if (codes !== dead.size) tally.find(`${codes} dead letters have a code, of ${dead.size}`);
}
