/** Runs the same work once for all who ask for it while it runs. */
export interface Shared<T> {
  /**
   * The work's outcome, or a rejection with the signal's reason. The work's own signal is aborted when every caller's is.
   */
  run(key: string, signal: AbortSignal, work: (all: AbortSignal) => Promise<T>): Promise<T>;
}

interface Running<T> {
  readonly outcome: Promise<T>;
  readonly all: AbortController;
  callers: number;
}

export function createShared<T>(): Shared<T> {
  const running = new Map<string, Running<T>>();

  function begin(key: string, work: (all: AbortSignal) => Promise<T>): Running<T> {
    const all = new AbortController();
    const begun: Running<T> = { outcome: work(all.signal), all, callers: 0 };
    running.set(key, begun);
    const end = () => {
      if (running.get(key) === begun) running.delete(key);
    };
    begun.outcome.then(end, end);
    return begun;
  }

  return {
    async run(key, signal, work) {
      signal.throwIfAborted();
      const current = running.get(key) ?? begin(key, work);
      current.callers++;
      const gone = Promise.withResolvers<never>();
      const onAbort = () => {
        gone.reject(signal.reason);
        if (--current.callers > 0) return;
        // Who comes now begins it again.
        running.delete(key);
        current.all.abort(signal.reason);
      };
      signal.addEventListener('abort', onAbort, { once: true });
      try {
        return await Promise.race([current.outcome, gone.promise]);
      } finally {
        signal.removeEventListener('abort', onAbort);
      }
    },
  };
}
