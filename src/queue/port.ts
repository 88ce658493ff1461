import type { JobData, JobError, JobResult, JobStatus, Priority } from './job.ts';

/**
 * A job as its producer hands it over. At most one waiting and one running job share a key:
 * - While one waits, it carries the newer data from now on, under its own id: attempts begin anew, the higher
 *   priority of both holds, it keeps its place in line, and is claimable now unless the newer asks for a delay.
 *   Its crashes stay counted: the image may be the same.
 * - While one runs, the newer one is its follow-up, and claimable only after the running one has left. When that
 *   is to be retried, is released or has crashed, it ends as cancelled instead: the follow-up makes it needless.
 * - An explicit version older than the waiting one's, or the running one's, is superseded and changes nothing.
 */
export interface NewJob {
  /**
   * Made by the caller. An enqueue repeated with the same id within 24 hours adds nothing and gives the first
   * answer, with the status and position of now.
   */
  readonly id: string;
  /** The product image's point id. */
  readonly key: string;
  readonly data: JobData;
  readonly priority: Priority;
  readonly maxAttempts: number;
  /** Orders the states of one product image. Null: the order of enqueueing decides. */
  readonly version: number | null;
  /** Not before this: a wait from now, or an instant (epoch milliseconds) on the queue's clock. */
  readonly notBefore?: { readonly delayMs: number } | { readonly atMs: number };
}

export interface EnqueuedJob {
  /** Of the job that now carries the data: the replaced job's own id when one was waiting. */
  readonly id: string;
  readonly status: JobStatus;
  /**
   * How many jobs are before it in line, plus one, if none of a higher priority comes; the turns of the oldest
   * (see AGED_TURN) are left out. Null unless it is claimable. SQLite estimates it beyond the first 500 of a line.
   */
  readonly position: number | null;
  /** True when a waiting job of the same product image now carries this data. */
  readonly replaced: boolean;
  /** True when a waiting or running job carries a newer version, so that this data was dropped. */
  readonly superseded: boolean;
  /** Null while the job is spooled: the queue gives it when the job arrives there. */
  readonly version: number | null;
  /** True when the queue is away, and the job was kept durably to be forwarded. */
  readonly spooled?: boolean;
}

export interface ClaimRequest {
  readonly workerId: string;
  /** Made by the caller, new for each claim: it is the token of each lease; a repeated call gives the first answer. */
  readonly claimId: string;
  readonly max: number;
  readonly leaseMs: number;
  /** True: claim one job that has crashed a worker before, to run it with nothing beside it. */
  readonly suspect?: boolean;
}

export interface Claim {
  readonly jobs: readonly ClaimedJob[];
  /** Jobs that have crashed a worker and wait to be run alone. */
  readonly suspectsWaiting: number;
}

export interface Lease {
  readonly id: string;
  /** The fence: a call with another token than the job's present one changes nothing. */
  readonly token: string;
}

export interface ClaimedJob extends Lease {
  readonly key: string;
  readonly data: JobData;
  readonly version: number;
  readonly priority: Priority;
  /** Which attempt this is, from 1. Crashes do not count. */
  readonly attempt: number;
  readonly maxAttempts: number;
  readonly crashes: number;
  /** Milliseconds since it was first claimed, by the queue's clock: what counts against its hard time limit. */
  readonly sinceFirstClaimMs: number;
}

/** `cancel`: someone cancelled the job, stop and settle it with `cancel`. `lost`: it is no longer yours. */
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
    /** A failed attempt that was the last: to the dead letter. */
    | { readonly kind: 'fail'; readonly error: JobError; readonly processingMs: number }
    /** Given back untouched: first in line again, no attempt counted. */
    | { readonly kind: 'release' }
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
  readonly outcome: 'completed' | 'retried' | 'failed' | 'released' | 'cancelled' | 'crashed';
  readonly error?: JobError;
}

/** All instants are epoch milliseconds of the queue's clock. */
export interface JobView {
  readonly id: string;
  readonly key: string;
  readonly productId: string;
  readonly imageId: string;
  readonly status: JobStatus;
  readonly priority: Priority;
  /** Null while the job is spooled, unless its producer gave it. */
  readonly version: number | null;
  readonly position: number | null;
  /** Estimated wait until it is claimed, from the present rate; null when unknown. */
  readonly etaMs: number | null;
  readonly attempts: number;
  readonly maxAttempts: number;
  readonly crashes: number;
  readonly enqueuedAt: number;
  /** When a delayed job becomes claimable. */
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

export interface QueueStats {
  /** All that wait for nothing but a worker, or for the running job of their product image, by priority. */
  readonly waiting: Readonly<Record<Priority, number>>;
  readonly delayed: number;
  readonly processing: number;
  readonly dead: number;
  /** Totals since the queue began. */
  readonly completed: number;
  readonly failed: number;
  readonly cancelled: number;
  /** Completed a second, over the last 60 seconds. */
  readonly completedPerSecond: number;
  /** Failed attempts of all attempts that ended in the last 60 seconds, 0 to 1. */
  readonly failureRate: number;
  /** Dead letters that were added in the last 5 minutes. */
  readonly recentlyDead: number;
  /** Age of the job that has waited longest among the claimable, in ms; null when none waits. */
  readonly oldestWaitingMs: number | null;
  /** Jobs that were accepted while the queue was away and are not forwarded yet; absent without a spool. */
  readonly spooled?: number;
  readonly paused: boolean;
}

export interface DeadPage {
  readonly jobs: readonly JobView[];
  /** Pass it to get the next page; null on the last. */
  readonly nextCursor: string | null;
  readonly total: number;
}

/** Which dead letters: by id, by error code, or all. */
export type DeadSelection = { readonly ids: readonly string[] } | { readonly code: string } | 'all';

export interface ReapResult {
  /** Jobs whose lease ran out and that wait again. */
  readonly recovered: number;
  /** Jobs that crashed too often and went to the dead letter. */
  readonly poisoned: number;
}

export interface CleanupReport extends ReapResult {
  /** Jobs that were in no place, or in several, or in the wrong one, and were mended. */
  readonly mended: number;
  readonly checked: number;
}

export interface ForgottenProduct {
  /** Waiting jobs that were cancelled. */
  readonly cancelled: number;
  /** Image ids that have, or had until now, a job; the store needs a tombstone for each. */
  readonly images: readonly { readonly imageId: string; readonly version: number }[];
}

/**
 * A durable queue of product images. Errors thrown by every method: `queue_unavailable` when the backend can't
 * be reached within its deadline. Each call may be repeated after a lost reply: it gives the first answer.
 */
export interface JobQueue extends AsyncDisposable {
  /**
   * Stores the jobs, all or none, durably, in order; answers in the same order.
   * @throws VitrineError `queue_full` when `maxPending` is set and would be passed; nothing is stored then.
   */
  enqueue(jobs: readonly NewJob[]): Promise<readonly EnqueuedJob[]>;
  claim(request: ClaimRequest): Promise<Claim>;
  renew(leases: readonly Lease[], leaseMs: number): Promise<readonly Renewal[]>;
  settle(settlements: readonly Settlement[]): Promise<readonly Settled[]>;
  /** Takes back jobs whose lease ran out. Any worker may call it at any time. */
  reap(): Promise<ReapResult>;
  /** Null for an id that is unknown or forgotten. The id of an enqueue that replaced a job's data gives that job. */
  status(id: string): Promise<JobView | null>;
  stats(): Promise<QueueStats>;
  /**
   * `cancelled`: it is, now or before. `requested`: it runs and stops within one renewal, and whatever else its
   * worker settles it with, but `complete`, ends it as cancelled. The id of an enqueue that replaced a job's data
   * stands for that job, until newer data replace them: then it is `ended`.
   */
  cancel(id: string): Promise<'cancelled' | 'requested' | 'ended' | 'unknown'>;
  /** Jobs that are leased now, longest first. */
  active(limit: number): Promise<readonly JobView[]>;
  dead(page: { readonly code?: string; readonly limit: number; readonly cursor?: string }): Promise<DeadPage>;
  /**
   * Puts dead letters back in the queue with fresh attempts and their old versions; gives how many. One whose
   * product image has a newer job ends as cancelled.
   */
  redrive(selection: DeadSelection): Promise<number>;
  /** Removes dead letters for good; gives how many. */
  purgeDead(selection: DeadSelection): Promise<number>;
  /** Cancels every job of the product (asked of running ones), for a deletion. */
  forgetProduct(productId: string): Promise<ForgottenProduct>;
  pause(): Promise<void>;
  resume(): Promise<void>;
  /** Reaps, then checks that each job is in exactly one place, and mends. */
  cleanup(): Promise<CleanupReport>;
  /** Removes every job; gives how many there were. */
  flush(): Promise<number>;
  /** The first answer kept under the key, or null after storing this one for `ttlMs`. */
  remember(key: string, answer: string, ttlMs: number): Promise<string | null>;
  /** The answer kept under the key, or null. */
  recall(key: string): Promise<string | null>;
  /** @throws VitrineError `queue_unavailable` */
  ping(): Promise<void>;
}
