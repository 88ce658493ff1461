import type { Redis } from 'ioredis';
import { ENDED_STATUSES, type JobResult, type JobStatus } from '../../../src/queue/job.ts';
import type { JobQueue } from '../../../src/queue/port.ts';
import type { VectorStore } from '../../../src/vectors/port.ts';
import { auditQueue } from './audit.ts';
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
  for (const fault of await auditQueue(parts.redis, parts.prefix)) tally.find(fault);
  const { repaired, recovered, poisoned } = await parts.queue.cleanup();
  if (repaired + recovered + poisoned > 0)
    tally.find(`cleanup repaired ${repaired} jobs, took back ${recovered} and gave up ${poisoned}`);
  return { ...outcome, points };
}

const toImageOutcome = (result: JobResult | null) =>
  result === null || result.outcome === 'delivered' ? undefined : result.outcome;

/** What became of each job. The queue itself is asked first, because it is faster than the API. */
async function readJobs(parts: {
  readonly queue: JobQueue;
  readonly ledger: Ledger;
  readonly apiUrl: string;
}): Promise<ReadonlyMap<string, JobEnd>> {
  const views = new Map<string, JobEnd>();
  for (const id of parts.ledger.acceptedIds) {
    const view = await parts.queue.status(id);
    if (view !== null) {
      const { status, lastError, result } = view;
      views.set(id, { status, errorCode: lastError?.code, outcome: toImageOutcome(result) });
      continue;
    }
    // Cancelled before it ever reached the queue: only the spool knows it.
    const response = await fetch(`${parts.apiUrl}/queue/status/${id}`);
    const { status } = (await response.json()) as { readonly status: JobStatus };
    if (response.ok) views.set(id, { status, errorCode: undefined, outcome: undefined });
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
  for (const [id, { status, errorCode }] of views) {
    if (status === 'failed' && errorCode === 'image_host_busy')
      tally.find(`job ${id} failed because its host asked to slow down`);
    if (status === 'failed' && errorCode === 'queue_refused')
      tally.find(`the queue refused the spooled job ${id}`);
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
