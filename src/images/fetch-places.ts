import pLimit from 'p-limit';
import { VitrineError } from '../errors/vitrine-error.ts';
import type { Clock } from '../observability/clock.ts';

/** A fetch that runs longer is slow: it only waits for its host, and must not keep others waiting. */
export const SLOW_AFTER_MS = 500;

/** Bounds how much is fetched at once, so that no host holds up another. */
export interface FetchPlaces {
  /**
   * The work's outcome, once it had a place. Work for a host that turns out to be slow leaves its place to others and
   * goes on; `onSlow` is called with true then, and with false when it has ended. Without a host, it keeps its place.
   * @throws VitrineError `image_host_slow` instead of beginning, when enough of this host's fetches are slow already
   */
  run<T>(host: string | null, work: () => Promise<T>, onSlow?: (isSlow: boolean) => void): Promise<T>;
}

export interface FetchPlacesOptions {
  readonly count: number;
  /** Slow fetches that go on without a place, from all hosts. */
  readonly maxSlow: number;
  readonly maxSlowPerHost: number;
  readonly clock: Clock;
}

export function createFetchPlaces(options: FetchPlacesOptions): FetchPlaces {
  const { count, maxSlow, maxSlowPerHost, clock } = options;
  const limit = pLimit(count);
  /** Never more hosts than slow fetches. */
  const slowByHost = new Map<string, number>();
  let slow = 0;

  function addSlow(host: string, change: 1 | -1): void {
    slow += change;
    const ofHost = (slowByHost.get(host) ?? 0) + change;
    if (ofHost === 0) slowByHost.delete(host);
    else slowByHost.set(host, ofHost);
  }

  async function keepPlace(host: string, outcome: Promise<unknown>, onSlow: (isSlow: boolean) => void) {
    const ended = outcome.then(
      () => true,
      () => true,
    );
    if (await isDoneWithin(SLOW_AFTER_MS, ended, clock)) return;
    if (slow >= maxSlow) {
      await ended;
      return;
    }
    addSlow(host, 1);
    onSlow(true);
    void ended.then(() => {
      addSlow(host, -1);
      onSlow(false);
    });
  }

  return {
    async run(host, work, onSlow = () => undefined) {
      if (host === null) return limit(work);
      // In an object, since a promise would be waited for: the place is free before the work has ended.
      const { outcome } = await limit(async () => {
        const slowOfHost = slowByHost.get(host) ?? 0;
        if (slowOfHost >= maxSlowPerHost) throw toHostSlow(host, slowOfHost);
        const begun = work();
        await keepPlace(host, begun, onSlow);
        return { outcome: begun };
      });
      return outcome;
    },
  };
}

async function isDoneWithin(ms: number, ended: Promise<boolean>, clock: Clock): Promise<boolean> {
  const timeout = Promise.withResolvers<boolean>();
  using _timer = clock.startTimer(ms, () => timeout.resolve(false));
  return await Promise.race([ended, timeout.promise]);
}

function toHostSlow(host: string, count: number): VitrineError {
  return new VitrineError('image_host_slow', `${host} is slow: ${count} of its images are being fetched.`);
}
