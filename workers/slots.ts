import type { VitrineError } from '../src/errors/vitrine-error.ts';
import { createFetchPlaces } from '../src/images/fetch-places.ts';
import type { Clock } from '../src/observability/clock.ts';
import { untilAborted } from './until-aborted.ts';

export interface SlotsOptions {
  readonly count: number;
  readonly clock: Clock;
  /** What a work that overruns its deadline fails with. */
  toTimeout(deadlineMs: number): VitrineError;
  /** Called when no slot is left: nothing can run in this stage any more. */
  onAllLost(): void;
}

/** Work that only waits for a host leaves its slot when that host is slow. */
export interface RemoteWork {
  readonly host: string;
  /** Called when the work left its slot, and when it has ended after that. */
  onSlow(isSlow: boolean): void;
}

/** The slots of one stage: that much work runs at once, the rest waits in line. */
export interface Slots {
  /**
   * The work's outcome, once it had a slot. It rejects early when `abort` is aborted, and the deadline, which counts
   * from the start of the work, aborts it. A slot stays taken until its work has really returned or has left it; one
   * whose work is past its deadline is lost.
   * @throws VitrineError `image_host_slow` when enough work for its host is slow already
   */
  run<T>(abort: AbortController, deadlineMs: number, work: () => Promise<T>, remote?: RemoteWork): Promise<T>;
}

/** Per slot of its stage: slow work that goes on without one. */
const SLOW_PER_SLOT = 8;
const SLOW_PER_SLOT_AND_HOST = 2;

export function createSlots({ count, clock, toTimeout, onAllLost }: SlotsOptions): Slots {
  const places = createFetchPlaces({
    count,
    maxSlow: SLOW_PER_SLOT * count,
    maxSlowPerHost: SLOW_PER_SLOT_AND_HOST * count,
    clock,
  });
  let lost = 0;

  return {
    run(abort, deadlineMs, work, remote) {
      let hasSlot = true;
      const onSlow = (isSlow: boolean): void => {
        hasSlot = false;
        remote?.onSlow(isSlow);
      };
      const runInSlot = async () => {
        abort.signal.throwIfAborted();
        let isLost = false;
        using _deadline = clock.startTimer(deadlineMs, () => {
          isLost = hasSlot;
          if (isLost) lost++;
          abort.abort(toTimeout(deadlineMs));
          if (isLost && lost === count) onAllLost();
        });
        try {
          return await work();
        } finally {
          if (isLost) lost--;
        }
      };
      return untilAborted(places.run(remote?.host ?? null, runInSlot, onSlow), abort.signal);
    },
  };
}
