import type { ProductImage } from '../catalog/product-image.ts';
import type { RetryPolicy } from '../config/queue-settings.ts';
import type { ErrorCode } from '../errors/error-table.ts';
import type { JobView } from './port.ts';

export type { RetryPolicy };

export const PRIORITIES = ['high', 'normal', 'low'] as const;
export type Priority = (typeof PRIORITIES)[number];

/**
 * The state of a job, the same word in code, in Redis, in SQLite and on the wire. `queued` may be claimed as soon as
 * a worker is free and no other job of its image runs; `delayed` waits for its time or for its host; `processing` is
 * leased to a worker; the other three are ends. `failed` is in the dead-letter queue.
 */
export const JOB_STATUSES = ['queued', 'delayed', 'processing', 'completed', 'failed', 'cancelled'] as const;
export type JobStatus = (typeof JOB_STATUSES)[number];

export const ENDED_STATUSES: readonly JobStatus[] = ['completed', 'failed', 'cancelled'];

/**
 * What a completed job came to. `indexed`: its point is in the store. `unchanged`: an earlier delivery of the same
 * job had already written it. `superseded`: the store holds a newer version of the image. `deleted`: the product was
 * deleted after the job was enqueued.
 */
export const OUTCOMES = ['indexed', 'unchanged', 'superseded', 'deleted'] as const;
export type Outcome = (typeof OUTCOMES)[number];

/** What a worker is doing for a job; `waiting`: it is held, and waits for a free slot of the next stage. */
export const STAGES = ['waiting', 'fetching', 'preparing', 'embedding', 'writing', 'delivering'] as const;
export type Stage = (typeof STAGES)[number];

/** What a worker needs to index an image. */
export interface ImageJobData extends ProductImage {
  readonly kind: 'image';
  /** Only what differs from the worker's own settings. */
  readonly retry?: Partial<RetryPolicy>;
  readonly softTimeoutMs?: number;
  readonly hardTimeoutMs?: number;
}

/** What a worker needs to report the end of a job to one callback address. The queue makes these jobs itself. */
export interface DeliveryJobData {
  readonly kind: 'delivery';
  readonly url: string;
  /** The job as it ended. */
  readonly job: JobView;
}

export type JobData = ImageJobData | DeliveryJobData;

/** A failure as stored with a job and shown to people. */
export interface JobError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly suggestion: string;
}

export interface ImageResult {
  readonly outcome: Outcome;
  readonly pointId: string;
  readonly collection: string;
  readonly model: string;
}

export interface DeliveryResult {
  readonly outcome: 'delivered';
  /** What the receiver answered: 200 to 299. */
  readonly httpStatus: number;
}

export type JobResult = ImageResult | DeliveryResult;

/** Crashes after which a job is taken to be what ends its workers. */
export const MAX_CRASHES = 3;

/** Every so many claimed jobs, the one that has waited longest is taken, whatever its priority: none starves. */
export const AGED_TURN = 8;

/** How many attempts a job's history keeps. */
export const MAX_HISTORY = 10;

/**
 * How many callback addresses one job reports its end to: several when newer jobs replaced its data, each with an
 * address of its own. Of more, the first ones are dropped.
 */
export const MAX_CALLBACKS = 10;

/** A callback address as the queue keeps it. Its host is slowed down apart from the images of the same host. */
export interface Callback {
  readonly url: string;
  readonly host: string;
}

export const toCallback = (url: string): Callback => ({ url, host: `webhook:${URL.parse(url)?.host ?? ''}` });

/** The addresses that a job stands for when it took over the data of another: each once, of too many the last ones. */
export function mergeCallbacks(first: readonly Callback[], second: readonly Callback[]): readonly Callback[] {
  const added = second.filter(({ url }) => !first.some((other) => other.url === url));
  return [...first, ...added].slice(-MAX_CALLBACKS);
}
