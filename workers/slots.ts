import pLimit from 'p-limit';
import type { VitrineError } from '../src/errors/vitrine-error.ts';
import type { Clock } from '../src/observability/clock.ts';
import { startTimer, untilAborted } from './deadline.ts';

export interface SlotsOptions {
  readonly count: number;
  readonly clock: Clock;
  /** What a work that overruns its deadline fails with. */
  toTimeout(deadlineMs: number): VitrineError;
  /** Called when no slot is left: nothing can run in this stage any more. */
  onAllLost(): void;
}

/** The slots of one stage: that much work runs at once, the rest waits in line. */
export interface Slots {
  /**
   * The work's outcome, once it had a slot. It rejects early when `abort` is aborted, and the deadline, which counts
   * from the start of the work, aborts it. A slot stays taken until its work has really returned; one whose work is
   * past its deadline is lost.
   */
  run<T>(abort: AbortController, deadlineMs: number, work: () => Promise<T>): Promise<T>;
}

export function createSlots({ count, clock, toTimeout, onAllLost }: SlotsOptions): Slots {
  const limit = pLimit(count);
  let lost = 0;

  return {
    run(abort, deadlineMs, work) {
      const running = limit(async () => {
        abort.signal.throwIfAborted();
        let isLost = false;
        using _deadline = startTimer(clock, deadlineMs, () => {
          isLost = true;
          lost++;
          abort.abort(toTimeout(deadlineMs));
          if (lost === count) onAllLost();
        });
        try {
          return await work();
        } finally {
          if (isLost) lost--;
        }
      });
      return untilAborted(running, abort.signal);
    },
  };
}
