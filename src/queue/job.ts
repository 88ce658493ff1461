import type { ProductImage } from '../catalog/product-image.ts';
import type { ErrorCode } from '../errors/error-table.ts';

export const PRIORITIES = ['high', 'normal', 'low'] as const;
export type Priority = (typeof PRIORITIES)[number];

/**
 * `queued` may be claimed now; `delayed` waits for its time (asked for, or the backoff after an error);
 * `processing` is leased to a worker; the other three are ends. `failed` is in the dead letter.
 */
export const JOB_STATUSES = ['queued', 'delayed', 'processing', 'completed', 'failed', 'cancelled'] as const;
export type JobStatus = (typeof JOB_STATUSES)[number];

export const ENDED_STATUSES: readonly JobStatus[] = ['completed', 'failed', 'cancelled'];

/** How a job's failures are retried. Durations in milliseconds. */
export interface RetryPolicy {
  /** Attempts in all, the first one included. */
  readonly attempts: number;
  /** Delay before the second attempt. */
  readonly baseMs: number;
  /** Each further delay is the last one times this. */
  readonly factor: number;
  readonly capMs: number;
  /** Share of the delay that is random, 0 to 1: 0.2 spreads it over ±20%. */
  readonly jitter: number;
}

/** What a worker needs to process a job. */
export interface JobData extends ProductImage {
  /** Only what differs from the worker's own settings. */
  readonly retry?: Partial<RetryPolicy>;
  readonly softTimeoutMs?: number;
  readonly hardTimeoutMs?: number;
}

/** A failure as stored with a job and shown to people. */
export interface JobError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly suggestion: string;
}

export interface JobResult {
  readonly pointId: string;
  readonly collection: string;
  readonly model: string;
}

/** Crashes (leases that ran out) after which a job is taken for what ends its workers. */
export const MAX_CRASHES = 3;

/** How long the status of a job is kept after it has completed or was cancelled. Dead letters stay. */
export const ENDED_TTL_MS = 24 * 3_600_000;

/** Every so many claimed jobs, the one that has waited longest is taken, whatever its priority: none starves. */
export const AGED_TURN = 8;

/** How many attempts a job's history keeps. */
export const MAX_HISTORY = 10;
