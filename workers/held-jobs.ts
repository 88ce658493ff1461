import type { Clock } from '../src/observability/clock.ts';
import type { Logger } from '../src/observability/logger.ts';
import type { DeliveryJobData, ImageJobData, Stage } from '../src/queue/job.ts';
import { type Claimed, type ClaimedJob, type JobQueue, RENEWALS_PER_LEASE } from '../src/queue/port.ts';
import { untilAborted } from './until-aborted.ts';

/** Why a held job is no longer worked on, when it isn't for a failure of its own. */
export type StopReason = 'cancelled' | 'lost' | 'draining';

/** The reason of a held job's aborted signal; a failure aborts it with a VitrineError instead. */
export class Stopped extends Error {
  override readonly name = 'Stopped';
  readonly reason: StopReason;

  constructor(reason: StopReason) {
    super(`The job was stopped: ${reason}.`);
    this.reason = reason;
  }
}

/** A job under this worker's lease, and how far it has come. */
export interface HeldJob<Job extends ClaimedJob = ClaimedJob> {
  readonly job: Job;
  /** Aborted with the first reason to stop; later ones change nothing. */
  readonly abort: AbortController;
  /** When it was claimed, on the worker's monotonic clock. */
  readonly heldAt: number;
  stage: Stage;
  /** Milliseconds in which it was really fetched and prepared: what counts against its soft limit. */
  workedMs: number;
}

export type HeldImage = HeldJob<Claimed<ImageJobData>>;
export type HeldDelivery = HeldJob<Claimed<DeliveryJobData>>;

export const isDelivery = (held: HeldJob): held is HeldDelivery => held.job.data.kind === 'delivery';
export const isImage = (held: HeldJob): held is HeldImage => held.job.data.kind === 'image';

/** The jobs this worker has leases of, renewed until they are settled. */
export interface HeldJobs {
  readonly size: number;
  /** Those that count against the claim limit: all but deliveries, those whose image comes slowly, and those that ended. */
  readonly busy: number;
  hold(job: ClaimedJob): HeldJob;
  /** Says that the work on the job has ended: it is settled while the next one is claimed. */
  setEnded(held: HeldJob): void;
  /** After it was settled. */
  drop(held: HeldJob): void;
  /** Says that the job's image comes slowly, or no longer. */
  setSlow(held: HeldJob, isSlow: boolean): void;
  stopAll(reason: StopReason): void;
  /** Resolves when nothing is held, or the signal is aborted; jobs whose image comes slowly are handed back. */
  handBackSlow(signal: AbortSignal): Promise<void>;
  /** Resolves when there may be fewer busy jobs, or the signal is aborted. */
  whenFewer(signal: AbortSignal): Promise<void>;
  /** Resolves when nothing is held, or the signal is aborted. */
  whenIdle(signal: AbortSignal): Promise<void>;
  /** Renews what is held, and stops what was cancelled or lost. @throws VitrineError when the queue is unreachable */
  renew(): Promise<void>;
  /** Renews RENEWALS_PER_LEASE times per lease, until the signal is aborted. */
  keepRenewing(signal: AbortSignal): Promise<void>;
}

export function createHeldJobs(parts: {
  readonly workerId: string;
  readonly queue: Pick<JobQueue, 'renew'>;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly leaseMs: number;
  /** Called when a renewal that `keepRenewing` makes fails. */
  onRenewalFailed(error: unknown): void;
}): HeldJobs {
  const { workerId, queue, clock, logger, leaseMs } = parts;
  const held = new Set<HeldJob>();
  const slow = new Set<HeldJob>();
  const ended = new Set<HeldJob>();
  let fewer = Promise.withResolvers<void>();

  async function whenFewer(signal: AbortSignal): Promise<void> {
    await untilAborted(fewer.promise, signal).catch(() => undefined);
  }

  function announceFewer(): void {
    fewer.resolve();
    fewer = Promise.withResolvers<void>();
  }

  /** Also the worker's heartbeat for the queue's crash rule: it is sent when nothing is held, too. */
  async function renew(): Promise<void> {
    const asked = [...held];
    const renewals = await queue.renew(
      workerId,
      asked.map(({ job: { id, token }, stage }) => ({ id, token, stage })),
    );
    for (const [index, { abort, job }] of asked.entries()) {
      const renewal = renewals[index];
      if (renewal === 'renewed' || abort.signal.aborted) continue;
      logger.info({ job_id: job.id, renewal }, 'lease not renewed');
      abort.abort(new Stopped(renewal === 'cancel' ? 'cancelled' : 'lost'));
    }
  }

  return {
    get size() {
      return held.size;
    },
    get busy() {
      return [...held].filter((entry) => isImage(entry) && !slow.has(entry) && !ended.has(entry)).length;
    },
    hold(job) {
      const entry: HeldJob = {
        job,
        abort: new AbortController(),
        heldAt: clock.monotonic(),
        stage: 'waiting',
        workedMs: 0,
      };
      held.add(entry);
      return entry;
    },
    setEnded(entry) {
      ended.add(entry);
      announceFewer();
    },
    drop(entry) {
      held.delete(entry);
      slow.delete(entry);
      ended.delete(entry);
      announceFewer();
    },
    setSlow(entry, isSlow) {
      if (!isSlow) slow.delete(entry);
      else if (held.has(entry)) slow.add(entry);
      announceFewer();
    },
    stopAll(reason) {
      for (const { abort } of held) abort.abort(new Stopped(reason));
    },
    async handBackSlow(signal) {
      while (held.size > 0 && !signal.aborted) {
        for (const { abort } of slow) abort.abort(new Stopped('draining'));
        await whenFewer(signal);
      }
    },
    whenFewer,
    async whenIdle(signal) {
      while (held.size > 0 && !signal.aborted) await whenFewer(signal);
    },
    renew,
    async keepRenewing(signal) {
      for (;;) {
        await clock.sleep(leaseMs / RENEWALS_PER_LEASE, signal);
        if (signal.aborted) return;
        // A failed renewal is no loss yet: the next one comes before the lease ends, and every settlement is fenced.
        await untilAborted(renew(), signal).catch((error: unknown) => {
          if (!signal.aborted) parts.onRenewalFailed(error);
        });
      }
    },
  };
}
