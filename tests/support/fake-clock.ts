import type { Clock } from '../../src/observability/clock.ts';

/** A clock that stands still until it is advanced. */
export interface FakeClock extends Clock {
  /** Runs everything that is due within the time, in order, with all that follows from it. */
  advance(ms: number): Promise<void>;
}

interface Sleeper {
  readonly at: number;
  wake(): void;
}

export function createFakeClock(): FakeClock {
  const sleepers = new Set<Sleeper>();
  let time = 0;

  function startTimer(ms: number, onTimeout: () => void): Disposable {
    const sleeper = { at: time + ms, wake };
    function wake(): void {
      sleepers.delete(sleeper);
      onTimeout();
    }
    sleepers.add(sleeper);
    return { [Symbol.dispose]: () => void sleepers.delete(sleeper) };
  }

  return {
    now: () => 1_700_000_000_000 + time,
    monotonic: () => time,
    startTimer,
    sleep(ms, signal) {
      if (signal?.aborted) return Promise.resolve();
      return new Promise((resolve) => {
        const timer = startTimer(ms, end);
        function end(): void {
          timer[Symbol.dispose]();
          signal?.removeEventListener('abort', end);
          resolve();
        }
        signal?.addEventListener('abort', end, { once: true });
      });
    },
    async advance(ms) {
      const until = time + ms;
      for (;;) {
        await settleAll();
        const next = [...sleepers].filter(({ at }) => at <= until).toSorted((a, b) => a.at - b.at)[0];
        if (next === undefined) break;
        time = Math.max(time, next.at);
        next.wake();
      }
      time = until;
    },
  };
}

/** Turns of the event loop, more than any chain of steps without a wait needs. */
async function settleAll(): Promise<void> {
  for (let turn = 0; turn < 20; turn++) await new Promise((resolve) => setImmediate(resolve));
}
