import type { Clock } from '../src/observability/clock.ts';

export interface BreakerOptions {
  readonly clock: Clock;
  /** Resolves when the dependency answers again. */
  probe(): Promise<void>;
  readonly firstWaitMs: number;
  readonly maxWaitMs: number;
}

/**
 * Keeps work away from a dependency that is down. It opens with the first failure, and closes when a probe
 * succeeds; each further opening without a success between doubles the wait, so that a dependency that answers
 * probes and fails at work isn't hammered.
 */
export interface Breaker {
  readonly isOpen: boolean;
  open(): void;
  succeed(): void;
  /** Resolves when it is closed, or the signal aborted. */
  untilClosed(signal: AbortSignal): Promise<void>;
}

export function createBreaker({ clock, probe, firstWaitMs, maxWaitMs }: BreakerOptions): Breaker {
  let waitMs = firstWaitMs;
  let isOpen = false;
  return {
    get isOpen() {
      return isOpen;
    },
    open() {
      isOpen = true;
    },
    succeed() {
      waitMs = firstWaitMs;
    },
    async untilClosed(signal) {
      while (isOpen && !signal.aborted) {
        await clock.sleep(waitMs, signal);
        waitMs = Math.min(maxWaitMs, waitMs * 2);
        await probe().then(
          () => {
            isOpen = false;
          },
          () => undefined,
        );
      }
    },
  };
}
