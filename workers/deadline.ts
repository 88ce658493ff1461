import type { Clock } from '../src/observability/clock.ts';

/** Calls `onTimeout` after the time, unless it is disposed before. */
export function startTimer(clock: Clock, ms: number, onTimeout: () => void): Disposable {
  const disposed = new AbortController();
  void clock.sleep(Math.max(0, ms), disposed.signal).then(() => {
    if (!disposed.signal.aborted) onTimeout();
  });
  return { [Symbol.dispose]: () => disposed.abort() };
}

/** The promise's outcome, or a rejection with the signal's reason as soon as it is aborted. */
export async function untilAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  const aborted = Promise.withResolvers<never>();
  const onAbort = () => aborted.reject(signal.reason);
  signal.addEventListener('abort', onAbort, { once: true });
  if (signal.aborted) onAbort();
  try {
    return await Promise.race([promise, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', onAbort);
  }
}
