import type { Clock } from '../src/observability/clock.ts';
import type { Logger } from '../src/observability/logger.ts';
import type { ClaimedJob, JobQueue } from '../src/queue/port.ts';

/** Why the work on a held job was stopped. */
export type StopReason = 'cancelled' | 'lost' | 'timeout' | 'draining';

/** The reason of a held job's aborted signal. */
export class Stopped extends Error {
  override readonly name = 'Stopped';
  readonly reason: StopReason;

  constructor(reason: StopReason) {
    super(`The job was stopped: ${reason}.`);
    this.reason = reason;
  }
}

export interface HeldJob {
  readonly job: ClaimedJob;
  readonly abort: AbortController;
}

/** The jobs this worker has leases of, renewed until they are settled. */
export interface HeldJobs {
  readonly size: number;
  hold(job: ClaimedJob): HeldJob;
  /** After it was settled. */
  drop(held: HeldJob): void;
  stopAll(reason: StopReason): void;
  /** Resolves when fewer than `size` are held, or the signal aborted. */
  untilFewerThan(size: number, signal?: AbortSignal): Promise<void>;
  /** Renews what is held every third of the lease, until the signal is aborted. */
  keepLeases(signal: AbortSignal): Promise<void>;
}

export function createHeldJobs(parts: {
  readonly queue: JobQueue;
  readonly clock: Clock;
  readonly logger: Logger;
  readonly leaseMs: number;
}): HeldJobs {
  const { queue, clock, logger, leaseMs } = parts;
  const held = new Set<HeldJob>();
  const watchers = new Set<() => void>();

  async function renew(): Promise<void> {
    const asked = [...held];
    if (asked.length === 0) return;
    const renewals = await queue.renew(
      asked.map(({ job }) => ({ id: job.id, token: job.token })),
      leaseMs,
    );
    asked.forEach(({ abort, job }, index) => {
      const renewal = renewals[index];
      if (renewal === 'renewed' || abort.signal.aborted) return;
      logger.info({ job_id: job.id, renewal }, 'lease not renewed');
      abort.abort(new Stopped(renewal === 'cancel' ? 'cancelled' : 'lost'));
    });
  }

  return {
    get size() {
      return held.size;
    },
    hold(job) {
      const entry = { job, abort: new AbortController() };
      held.add(entry);
      return entry;
    },
    drop(entry) {
      held.delete(entry);
      for (const watcher of watchers) watcher();
    },
    stopAll(reason) {
      for (const { abort } of held) abort.abort(new Stopped(reason));
    },
    async untilFewerThan(size, signal) {
      if (held.size < size || signal?.aborted) return;
      const { promise, resolve } = Promise.withResolvers<void>();
      const watcher = () => {
        if (held.size < size || signal?.aborted) resolve();
      };
      watchers.add(watcher);
      signal?.addEventListener('abort', watcher, { once: true });
      await promise;
      watchers.delete(watcher);
      signal?.removeEventListener('abort', watcher);
    },
    async keepLeases(signal) {
      while (!signal.aborted) {
        await clock.sleep(leaseMs / 3, signal);
        if (signal.aborted) return;
        // A failed renewal is no loss yet: the next one comes before the lease ends, and every settlement is fenced.
        await renew().catch((error: unknown) => logger.warn({ error }, 'renewing leases failed'));
      }
    },
  };
}
