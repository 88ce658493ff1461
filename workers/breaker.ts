import type { Clock } from '../src/observability/clock.ts';
import { untilAborted } from './until-aborted.ts';

export interface BreakerOptions {
  readonly clock: Pick<Clock, 'sleep'>;
  /** Resolves when the dependency answers again. */
  probe(): Promise<void>;
  readonly firstWaitMs: number;
  readonly maxWaitMs: number;
}

/**
 * Keeps work away from a dependency that is down. It opens with the first failure, and closes when a probe succeeds.
 * Each time it opens again without a success in between, the wait doubles: a dependency that answers probes but fails
 * at work isn't flooded.
 */
export interface Breaker {
  readonly isOpen: boolean;
  open(): void;
  succeed(): void;
  /** Resolves when it is closed, or as soon as the signal is aborted. */
  whenClosed(signal: AbortSignal): Promise<void>;
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
    async whenClosed(signal) {
      while (isOpen && !signal.aborted) {
        await clock.sleep(waitMs, signal);
        waitMs = Math.min(maxWaitMs, waitMs * 2);
        if (signal.aborted) return;
        await untilAborted(probe(), signal).then(
          () => {
            isOpen = false;
          },
          () => undefined,
        );
      }
    },
  };
}
