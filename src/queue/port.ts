import type {
  DeliveryJobData,
  ImageJobData,
  JobError,
  JobResult,
  JobStatus,
  Priority,
  Stage,
} from './job.ts';

export { type LeaseTimes, type QueueSettings, toLeaseTimes } from '../config/queue-settings.ts';

/**
 * A job as its producer hands it over. The rules for jobs of the same product image (`key`):
 * - A newer job replaces every waiting one that is due no sooner than itself: the first of these carries the newer
 *   data from now on, under its own id. Attempts start again, the higher priority of both holds, it keeps its place in
 *   line, and its crashes stay counted, since the image may be the same. A waiting job that is due sooner stays.
 * - While one runs, the newer one is its follow-up, and claimable only after the running one has left. When the running
 *   one is to wait again (retry, release, crash) and the follow-up is due no later, it ends as cancelled instead.
 * - An explicit version lower than that of a waiting or running job that is due no later is superseded: nothing changes.
 */
export interface NewJob {
  /**
   * Made by the caller. An enqueue repeated with the same id within 24 hours adds nothing and returns the first
   * answer, with the status and position of now.
   */
  readonly id: string;
  /** The product image's point id. */
  readonly key: string;
  readonly data: ImageJobData;
  readonly priority: Priority;
  readonly maxAttempts: number;
  /**
   * Orders the states of one product image; 0 to 2^53 − 1. Null: the job's sequence is its version. Of two equal
   * versions the one with the greater sequence is newer.
   */
  readonly version: number | null;
  /** Not before this: a wait from now, or an instant (epoch milliseconds) on the queue's clock. */
  readonly notBefore?: { readonly delayMs: number } | { readonly atMs: number };
  /**
   * Where its end is reported: in the step that ends it, the queue adds a job of kind `delivery`, which no product image
   * replaces and no deletion cancels. A job that takes over its data, or supersedes it, reports to its address too.
   */
  readonly callbackUrl?: string;
  /** It was cancelled before it came here: it is stored as cancelled, replaces nothing, and its end is reported. */
  readonly cancelled?: true;
  /** How long ago it was accepted, when it waited in the spool: its sequence, and its delay, count from then. */
  readonly ageMs?: number;
}

export interface EnqueuedJob {
  /** Of the job that now carries the data: the replaced job's own id when one was waiting. */
  readonly id: string;
  readonly status: JobStatus;
  /**
   * How many jobs are before it in line, plus one, if none of a higher priority comes; the turns of the oldest (see
   * AGED_TURN) are left out. Exact, or null: when it is not in line, or SQLite would have to count too many.
   */
  readonly position: number | null;
  /** True when a waiting job of the same product image now carries this data. */
  readonly replaced: boolean;
  /** True when a waiting or running job carries a newer version, so that this data was dropped. */
  readonly superseded: boolean;
  /** Null while the job is spooled: the queue assigns it when the job arrives there. */
  readonly version: number | null;
  /** True when the queue is unreachable, and the job was kept durably to be forwarded. */
  readonly spooled?: boolean;
}

export interface ClaimRequest {
  readonly workerId: string;
  /** Made by the caller, new for each claim: the token of each lease. A repeated call returns the first answer. */
  readonly claimId: string;
  readonly max: number;
  /** Payload bytes of one claim; at least one job is claimed, however large it is. Default: CLAIM_MAX_BYTES. */
  readonly maxBytes?: number;
  /** True: claim one job that has crashed a worker before, to run it with nothing else in the process. */
  readonly suspect?: boolean;
}

export const CLAIM_MAX_BYTES = 16_000_000;

export interface Claim {
  readonly jobs: readonly ClaimedJob[];
  /** Jobs that have crashed a worker and wait to be run alone. */
  readonly suspectsWaiting: number;
  /** Milliseconds until the next delayed job or paused host is due; null when none waits for its time. */
  readonly nextDueMs: number | null;
}

export interface Lease {
  readonly id: string;
  /** The fence: a call with another token than the job's present one changes nothing. */
  readonly token: string;
}

export interface Claimed<Data> extends Lease {
  /** The product image's point id; of a delivery, its own id. */
  readonly key: string;
  readonly data: Data;
  readonly version: number;
  /** Grows with each enqueue: microseconds of the queue's clock, or one more than the last. Orders against deletions. */
  readonly sequence: number;
  readonly priority: Priority;
  /** Which attempt this is, from 1. Crashes, releases and deferrals do not count. */
  readonly attempt: number;
  readonly maxAttempts: number;
  readonly crashes: number;
  /** True when it was claimed before, whatever came of it: its point may already be written. */
  readonly redelivered: boolean;
  /** Milliseconds under earlier leases: what counts against its hard time limit. */
  readonly leasedMs: number;
  /** Milliseconds since a host first asked to slow down for it; 0: never. */
  readonly deferredMs: number;
}

export type ClaimedJob = Claimed<ImageJobData> | Claimed<DeliveryJobData>;

/** `cancel`: it was cancelled, stop and settle it with `cancel`. `lost`: the lease belongs to someone else now. */
export type Renewal = 'renewed' | 'cancel' | 'lost';

export type Settlement = Lease &
  (
    | { readonly kind: 'complete'; readonly result: JobResult; readonly processingMs: number }
    /** A failed attempt that is worth another one after the delay; without attempts left it counts as `fail`. */
    | {
        readonly kind: 'retry';
        readonly error: JobError;
        readonly delayMs: number;
        readonly processingMs: number;
      }
    /** A failed attempt that was the last: to the dead-letter queue. */
    | { readonly kind: 'fail'; readonly error: JobError; readonly processingMs: number }
    /** Handed back untouched: first in line again, no attempt counted. */
    | { readonly kind: 'release' }
    /**
     * The image's host asked to slow down: no attempt counted, and no job of that host is claimed before the delay is
     * over. After it the queue hands out that host's jobs slowly, in order, and faster with each that is settled.
     */
    | { readonly kind: 'defer'; readonly error: JobError; readonly delayMs: number }
    /** Ends a job whose renewal said `cancel`. */
    | { readonly kind: 'cancel' }
  );

/** `lost`: the token was stale, nothing changed. */
export type Settled = 'settled' | 'lost';

export interface AttemptRecord {
  /** Epoch ms of the queue's clock. */
  readonly startedAt: number;
  readonly endedAt: number;
  readonly workerId: string;
  readonly outcome: 'completed' | 'retried' | 'failed' | 'released' | 'deferred' | 'cancelled' | 'crashed';
  readonly error?: JobError;
}

/** Which end of which job is reported, and where. */
export interface Delivery {
  readonly jobId: string;
  readonly url: string;
  readonly end: 'completed' | 'failed' | 'cancelled';
}

/** All instants are epoch milliseconds of the queue's clock. */
export interface JobView {
  readonly id: string;
  readonly key: string;
  /** Of a delivery: the product image of the job that it reports. */
  readonly productId: string;
  readonly imageId: string;
  /** Null for an image. */
  readonly delivery: Delivery | null;
  readonly status: JobStatus;
  /** Null unless it is processing; as of its last renewal. */
  readonly stage: Stage | null;
  readonly priority: Priority;
  /** Null while the job is spooled, unless its producer set it. */
  readonly version: number | null;
  readonly position: number | null;
  /** Estimated wait until it is claimed, from the present rate; null when unknown or paused. */
  readonly etaMs: number | null;
  readonly attempts: number;
  readonly maxAttempts: number;
  readonly crashes: number;
  readonly enqueuedAt: number;
  /** When a delayed job becomes claimable; null when that depends on its host. */
  readonly availableAt: number | null;
  readonly startedAt: number | null;
  readonly endedAt: number | null;
  readonly processingMs: number | null;
  readonly workerId: string | null;
  readonly lastError: JobError | null;
  readonly result: JobResult | null;
  readonly cancelRequested: boolean;
  /** Oldest first, the last ten. */
  readonly history: readonly AttemptRecord[];
}

/** A host that asked to slow down, and its jobs that wait for it. */
export interface HostPause {
  readonly host: string;
  readonly waiting: number;
  /** Milliseconds until its next job may be claimed. */
  readonly nextInMs: number;
  readonly perSecond: number;
}

/**
 * Deliveries count among what waits, is delayed, runs or is dead; totals, rates and times are those of images alone.
 */
export interface QueueStats {
  /** All that wait for nothing but a worker, or for the running job of their product image, by priority. */
  readonly waiting: Readonly<Record<Priority, number>>;
  /** Jobs that wait for their time or for their host. */
  readonly delayed: number;
  readonly processing: number;
  readonly dead: number;
  /** Totals since the queue was made or flushed. */
  readonly completed: number;
  readonly failed: number;
  readonly cancelled: number;
  /** Dead letters that were dropped because there were more than may be kept. */
  readonly deadDropped: number;
  /** Completed per second, over the last 60 seconds. */
  readonly completedPerSecond: number;
  /** Failed attempts of all attempts that ended in the last 60 seconds, 0 to 1. */
  readonly failureRate: number;
  /** Dead letters that were added in the last 5 minutes. */
  readonly recentlyDead: number;
  /** Of the last thousand jobs that completed; null before the first. */
  readonly processingMs: { readonly p50: number; readonly p95: number } | null;
  /** Age of the job that has waited longest among the claimable, in ms; null when none waits. */
  readonly oldestWaitingMs: number | null;
  /** At most 20, the one with the most waiting jobs first. */
  readonly hosts: readonly HostPause[];
  /** Jobs that were accepted while the queue was unreachable and are not forwarded yet; absent without a spool. */
  readonly spooled?: number;
  readonly paused: boolean;
}

export interface ListRequest {
  readonly status: JobStatus;
  /** For `failed`: only those of this error code. */
  readonly code?: string;
  readonly limit: number;
  readonly cursor?: string;
}

export interface DeliveriesRequest {
  readonly limit: number;
  readonly cursor?: string;
}

export interface JobPage {
  /** `processing`: the longest running first. Others: the one that came to this state last first. */
  readonly jobs: readonly JobView[];
  /** Pass it to get the next page; null on the last. */
  readonly nextCursor: string | null;
  readonly total: number;
}

/** Which dead letters: by id, by error code, or all. */
export type DeadSelection = { readonly ids: readonly string[] } | { readonly code: string } | 'all';

export interface ReapResult {
  /** Jobs whose lease expired and that wait again. */
  readonly recovered: number;
  /** Jobs that crashed too often and went to the dead-letter queue. */
  readonly poisoned: number;
}

export interface CleanupReport extends ReapResult {
  /** Jobs whose place did not follow from their state, and were put where they belong. */
  readonly repaired: number;
  readonly checked: number;
}

export interface ForgottenProduct {
  /** The sequence of the deletion: everything enqueued before has a smaller one. */
  readonly sequence: number;
  /** Waiting jobs and dead letters that were cancelled. */
  readonly cancelled: number;
  /** Images that had a waiting, running or dead job; the store needs a tombstone for each. */
  readonly imageIds: readonly string[];
}

export type WorkerState = 'starting' | 'loading' | 'idle' | 'working' | 'draining';

/** What a worker reports with each heartbeat. */
export interface WorkerReport {
  readonly id: string;
  readonly host: string;
  readonly pid: number;
  readonly state: WorkerState;
  readonly model: string;
  readonly concurrency: number;
  readonly inFlight: number;
  readonly done: number;
  readonly failed: number;
  /** Over the last 30 seconds. */
  readonly imagesPerSecond: number;
  /** Resident memory of the process. */
  readonly memoryBytes: number;
  /** Milliseconds since its start, by its own monotonic clock. */
  readonly uptimeMs: number;
}

export interface SeenWorker extends WorkerReport {
  /** Milliseconds since its last heartbeat, by the queue's clock. */
  readonly lastSeenMs: number;
}

/** How many jobs of a product are listed. */
export const MAX_JOBS_OF = 1_000;

/** How long a worker stays listed after its last heartbeat. */
export const HEARTBEAT_TTL_MS = 60_000;

/** How often a worker renews, and how often it reaps, per lease. */
export const RENEWALS_PER_LEASE = 3;
export const REAPS_PER_LEASE = 8;

/**
 * A durable queue of product images. Errors thrown by every method: `queue_unavailable` when the backend can't be
 * reached within its deadline, `queue_unsafe` while it is set up in a way that loses jobs. Each call may be repeated
 * after a lost reply: it returns the first answer.
 */
export interface JobQueue extends AsyncDisposable {
  /**
   * Stores the jobs durably, in order, as many as there is room for; returns an answer for each that was stored, in the
   * same order. `accepted`: they were accepted before, so that `maxPending` does not apply.
   * @throws VitrineError `queue_full` when there is no room for the first
   */
  enqueue(
    jobs: readonly NewJob[],
    options?: { readonly accepted?: boolean },
  ): Promise<readonly EnqueuedJob[]>;
  claim(request: ClaimRequest): Promise<Claim>;
  /** Resolves when something may have become claimable, after the time, or when the signal is aborted. */
  waitForWork(timeoutMs: number, signal: AbortSignal): Promise<void>;
  /** Renews what the worker holds; also its heartbeat for the crash rule, so it is called without leases too. */
  renew(
    workerId: string,
    leases: readonly (Lease & { readonly stage: Stage })[],
  ): Promise<readonly Renewal[]>;
  /** @throws VitrineError `queue_refused` when the backend can't store one of them: settle each by itself then. */
  settle(settlements: readonly Settlement[]): Promise<readonly Settled[]>;
  /** Takes back jobs whose lease expired, drops what is kept too long, and repairs a few. Any worker, at any time. */
  reap(): Promise<ReapResult>;
  /** Null for an id that is unknown or dropped. The id of an enqueue that replaced a job's data returns that job. */
  status(id: string): Promise<JobView | null>;
  stats(): Promise<QueueStats>;
  /** @throws VitrineError `invalid_request` for a cursor that isn't one */
  list(request: ListRequest): Promise<JobPage>;
  /** The deliveries that are kept, the one that was made last first. @throws VitrineError `invalid_request` as `list` */
  deliveries(request: DeliveriesRequest): Promise<JobPage>;
  /**
   * `cancelled`: it is, now or before. `requested`: it runs and stops within one renewal, and whatever else its worker
   * settles it with, but `complete`, ends it as cancelled. The id of an enqueue that replaced a job's data stands for
   * that job, until newer data replace them: then it is `ended`.
   */
  cancel(id: string): Promise<'cancelled' | 'requested' | 'ended' | 'unknown'>;
  /**
   * Puts dead letters back in the queue with fresh attempts and their old versions; returns how many. One whose product
   * image has a newer job ends as cancelled; one whose inline image was dropped stays.
   */
  redrive(selection: DeadSelection): Promise<number>;
  /** Removes dead letters for good; returns how many. */
  purgeDead(selection: DeadSelection): Promise<number>;
  /**
   * Cancels every job of the product, or of one of its images, for a deletion: running ones are asked to stop, dead
   * letters are cancelled too.
   */
  forgetProduct(productId: string, imageId?: string): Promise<ForgottenProduct>;
  /** The product's jobs that wait, run or are dead letters, by image id, without positions; at most MAX_JOBS_OF. */
  jobsOf(productId: string): Promise<readonly JobView[]>;
  /** A sequence greater than those of all jobs until now, and smaller than those of all jobs from now on. */
  nextSequence(): Promise<number>;
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** Reaps, then checks every job, and repairs. */
  cleanup(): Promise<CleanupReport>;
  /** Removes every job and every remembered answer, and resets the totals; returns how many jobs there were. */
  flush(): Promise<number>;
  /** The first value kept under the key, or null after storing this one for `ttlMs`. */
  remember(key: string, value: string, ttlMs: number): Promise<string | null>;
  /** The value kept under the key, or null. */
  recall(key: string): Promise<string | null>;
  /** Lists the worker for HEARTBEAT_TTL_MS. */
  heartbeat(report: WorkerReport): Promise<void>;
  removeWorker(id: string): Promise<void>;
  /** By id, in order. */
  workers(): Promise<readonly SeenWorker[]>;
  /** @throws VitrineError `queue_unavailable`, `queue_unsafe` */
  ping(): Promise<void>;
}
