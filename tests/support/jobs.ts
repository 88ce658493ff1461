import { randomUUID } from 'node:crypto';
import { toPointId } from '../../src/catalog/product-image.ts';
import type { JobError, JobResult } from '../../src/queue/job.ts';
import type { Claim, ClaimRequest, JobQueue, NewJob, Settlement } from '../../src/queue/port.ts';

/** A job of a product's picture; two of the same product and image share their key. */
export function newJob(
  productId: string,
  over: Partial<NewJob> & { imageId?: string; url?: string } = {},
): NewJob {
  const { imageId = 'main', url = `http://images.example/${productId}`, ...rest } = over;
  return {
    id: randomUUID(),
    key: toPointId(productId, imageId),
    data: { productId, imageId, image: { kind: 'url', url }, product: { name: productId } },
    priority: 'normal',
    maxAttempts: 3,
    version: null,
    ...rest,
  };
}

export const result: JobResult = { pointId: 'point', collection: 'products', model: 'builtin' };
export const brokenImage: JobError = { code: 'image_corrupt', message: 'Broken.', suggestion: 'Mend it.' };
export const slowServer: JobError = { code: 'image_fetch_timeout', message: 'Slow.', suggestion: 'Wait.' };

/** Claims with a lease that no test outlives, unless it says otherwise. */
export function claim(queue: JobQueue, over: Partial<ClaimRequest> = {}): Promise<Claim> {
  return queue.claim({ workerId: 'worker', claimId: randomUUID(), max: 10, leaseMs: 60_000, ...over });
}

type Lease = { readonly id: string; readonly token: string };

export const complete = ({ id, token }: Lease): Settlement => ({
  id,
  token,
  kind: 'complete',
  result,
  processingMs: 7,
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
export const cancel = ({ id, token }: Lease): Settlement => ({ id, token, kind: 'cancel' });

/** Claims with a lease that is over at once, and lets the queue find out: a crash of the worker. */
export async function crash(queue: JobQueue, over: Partial<ClaimRequest> = {}): Promise<Claim> {
  const claimed = await claim(queue, { leaseMs: 1, ...over });
  await new Promise((resolve) => setTimeout(resolve, 5));
  return claimed;
}
