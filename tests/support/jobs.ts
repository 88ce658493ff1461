import { randomUUID } from 'node:crypto';
import { toPointId } from '../../src/catalog/product-image.ts';
import type { ImageJobData, JobError, JobResult, Stage } from '../../src/queue/job.ts';
import {
  type Claim,
  type ClaimedJob,
  type ClaimRequest,
  type JobQueue,
  type Lease,
  type NewJob,
  type QueueSettings,
  type Renewal,
  type Settlement,
  toLeaseTimes,
} from '../../src/queue/port.ts';

/** A queue without limits that matter in a test; leases outlive every test. */
export const queueSettings: QueueSettings = {
  lease: toLeaseTimes(60_000),
  maxPending: 0,
  endedTtlMs: 24 * 3_600_000,
  maxEnded: 1_000_000,
  maxDead: 100_000,
  maxDeadInlineBytes: 200_000_000,
};

/** Leases are over at once, and each one that ran out counts as a crash. */
export const crashing = {
  lease: { leaseMs: 1, staleHeartbeatMs: 0, outageMs: Number.POSITIVE_INFINITY },
} satisfies Partial<QueueSettings>;

/** A job of a product's picture; two of the same product and image share their key. */
export function newJob(
  productId: string,
  over: Partial<NewJob> & { imageId?: string; url?: string } = {},
): NewJob {
  const { imageId = 'main', url = `http://images.example/${productId}`, ...rest } = over;
  return {
    id: randomUUID(),
    key: toPointId(productId, imageId),
    data: { kind: 'image', productId, imageId, image: { kind: 'url', url }, product: { name: productId } },
    priority: 'normal',
    maxAttempts: 3,
    version: null,
    ...rest,
  };
}

/** A job whose image of about that many bytes comes with it. */
export function newInlineJob(productId: string, bytes: number): NewJob {
  const job = newJob(productId);
  return { ...job, data: { ...job.data, image: { kind: 'inline', base64: 'A'.repeat(bytes) } } };
}

/** The data of a claimed job that must be of an image. */
export function toImageData({ data }: ClaimedJob): ImageJobData {
  if (data.kind !== 'image') throw new Error('The job is a delivery.');
  return data;
}

export const inAnHour = { delayMs: 3_600_000 } as const;

export const result: JobResult = {
  outcome: 'indexed',
  pointId: 'point',
  collection: 'products',
  model: 'builtin',
};
export const brokenImage: JobError = { code: 'image_corrupt', message: 'Broken.', suggestion: 'Repair it.' };
export const slowServer: JobError = { code: 'image_fetch_timeout', message: 'Slow.', suggestion: 'Wait.' };
export const busyHost: JobError = { code: 'image_host_busy', message: 'Busy.', suggestion: 'Wait.' };

export function claim(queue: JobQueue, over: Partial<ClaimRequest> = {}): Promise<Claim> {
  return queue.claim({ workerId: 'worker', claimId: randomUUID(), max: 10, ...over });
}

export function renew(
  queue: JobQueue,
  leases: readonly Lease[],
  stage: Stage = 'fetching',
): Promise<readonly Renewal[]> {
  return queue.renew(
    'worker',
    leases.map(({ id, token }) => ({ id, token, stage })),
  );
}

export const complete = ({ id, token }: Lease, processingMs = 7): Settlement => ({
  id,
  token,
  kind: 'complete',
  result,
  processingMs,
});
export const fail = ({ id, token }: Lease, error = brokenImage): Settlement => ({
  id,
  token,
  kind: 'fail',
  error,
  processingMs: 7,
});
export const retry = ({ id, token }: Lease, delayMs: number): Settlement => ({
  id,
  token,
  kind: 'retry',
  error: slowServer,
  delayMs,
  processingMs: 7,
});
export const release = ({ id, token }: Lease): Settlement => ({ id, token, kind: 'release' });
export const defer = ({ id, token }: Lease, delayMs = 0): Settlement => ({
  id,
  token,
  kind: 'defer',
  error: busyHost,
  delayMs,
});
export const cancel = ({ id, token }: Lease): Settlement => ({ id, token, kind: 'cancel' });

/** Reaps until none of the jobs runs any more; what `reap` returned, added up. */
export async function reapUntilGone(queue: JobQueue, leases: readonly { readonly id: string }[]) {
  const deadline = performance.now() + 10_000;
  const total = { recovered: 0, poisoned: 0 };
  for (;;) {
    const { recovered, poisoned } = await queue.reap();
    total.recovered += recovered;
    total.poisoned += poisoned;
    const views = await Promise.all(leases.map(({ id }) => queue.status(id)));
    if (views.every((view) => view?.status !== 'processing')) return total;
    if (performance.now() > deadline) throw new Error('The leases were not taken back.');
  }
}

/** Claims, and lets the leases run out: a crash of the worker. The queue is a view with the settings `crashing`. */
export async function crash(queue: JobQueue, over: Partial<ClaimRequest> = {}) {
  const { jobs } = await claim(queue, over);
  return { jobs, ...(await reapUntilGone(queue, jobs)) };
}
