import { type JobError, type JobResult, type JobStatus, PRIORITIES } from '../job.ts';
import type { AttemptRecord, JobView } from '../port.ts';
import type { JobRecord } from './sqlite-queue-ledger.ts';
import type { Place } from './sqlite-queue-schema.ts';

const STATUS: Record<Place, JobStatus> = {
  h: 'queued',
  n: 'queued',
  l: 'queued',
  s: 'queued',
  p: 'queued',
  d: 'delayed',
  r: 'processing',
  c: 'completed',
  f: 'failed',
  x: 'cancelled',
};

export function toStatus(job: JobRecord, now: number): JobStatus {
  return job.place === 'p' && job.availableAt > now ? 'delayed' : STATUS[job.place];
}

export const toPriority = (rank: number) => PRIORITIES[rank - 1] ?? 'normal';

const parse = <T>(json: string): T | null => (json === '' ? null : (JSON.parse(json) as T));

/** @param completedPerSecond null when unknown: then no wait is estimated */
export function toJobView(
  job: JobRecord,
  now: number,
  position: number | null,
  completedPerSecond: number | null,
): JobView {
  return {
    id: job.id,
    key: job.key,
    productId: job.productId,
    imageId: job.imageId,
    status: toStatus(job, now),
    priority: toPriority(job.priority),
    version: job.version,
    position,
    etaMs:
      position === null || !completedPerSecond ? null : Math.round((position / completedPerSecond) * 1000),
    attempts: job.attempts,
    maxAttempts: job.maxAttempts,
    crashes: job.crashes,
    enqueuedAt: job.enqueuedAt,
    availableAt: job.availableAt || null,
    startedAt: job.startedAt || null,
    endedAt: job.endedAt || null,
    processingMs: job.processingMs < 0 ? null : job.processingMs,
    workerId: job.workerId || null,
    lastError: parse<JobError>(job.error),
    result: parse<JobResult>(job.result),
    cancelRequested: job.cancelRequested === 1,
    history: JSON.parse(job.history) as AttemptRecord[],
  };
}
