/** Time as this process sees it. Queues use their server's clock, never this one. */
export interface Clock {
  /** Epoch milliseconds. */
  now(): number;
  /** Milliseconds that only grow, from an arbitrary start: for durations. */
  monotonic(): number;
  /** Calls `onTimeout` after the time, unless the timer is disposed before. It costs little: each job sets a few. */
  startTimer(ms: number, onTimeout: () => void): Disposable;
  /** Resolves after the time, or at once when the signal is or becomes aborted; never rejects. */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}
