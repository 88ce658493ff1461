/** Counts events over a sliding window of whole seconds. */
export interface Rate {
  add(nowMs: number): void;
  /** Events a second over the window, or over the time since the first event while that is shorter. */
  perSecond(nowMs: number): number;
}

export function createRate(windowSeconds: number): Rate {
  const counts = new Map<number, number>();
  let first: number | undefined;
  return {
    add(nowMs) {
      const second = Math.floor(nowMs / 1000);
      first ??= second;
      counts.set(second, (counts.get(second) ?? 0) + 1);
      for (const old of counts.keys()) if (old < second - windowSeconds) counts.delete(old);
    },
    perSecond(nowMs) {
      if (first === undefined) return 0;
      const second = Math.floor(nowMs / 1000);
      let sum = 0;
      for (const [at, count] of counts) if (at > second - windowSeconds) sum += count;
      return sum / Math.min(windowSeconds, Math.max(1, second - first + 1));
    },
  };
}
