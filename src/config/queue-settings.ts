/** How a job's failures are retried. Durations in milliseconds. */
export interface RetryPolicy {
  /** Attempts in all, the first one included. */
  readonly attempts: number;
  /** Delay before the second attempt. */
  readonly baseMs: number;
  /** Each further delay is the last one times this. */
  readonly factor: number;
  readonly capMs: number;
  /** Share of the delay that is random, 0 to 1: 0.2 spreads it over ±20%. */
  readonly jitter: number;
}

/** How long leases last, and when an expired one counts as a crash of its worker. Milliseconds. */
export interface LeaseTimes {
  readonly leaseMs: number;
  /** A worker whose last renewal or claim is older may be dead; a younger one lives, and never learned of the lease. */
  readonly staleHeartbeatMs: number;
  /**
   * When nobody has called `reap` for longer, the queue was unreachable: from the first call on, every worker gets a
   * full lease to renew before anything is taken from it.
   */
  readonly outageMs: number;
}

/** Of the default lease of 15 s: renewed every 5 s, stale after 10 s, an outage after 5 s without a reap. */
export function toLeaseTimes(leaseMs: number): LeaseTimes {
  return { leaseMs, staleHeartbeatMs: (leaseMs * 2) / 3, outageMs: leaseMs / 3 };
}

/** What a queue is created with; the adapters add where it lives. */
export interface QueueSettings {
  readonly lease: LeaseTimes;
  /** Greatest number of jobs that have not ended; 0: no limit. */
  readonly maxPending: number;
  /** How long, and how many, completed and cancelled jobs are kept. */
  readonly endedTtlMs: number;
  readonly maxEnded: number;
  /** How many dead letters are kept, and how many bytes of their inline images; the oldest go first. */
  readonly maxDead: number;
  readonly maxDeadInlineBytes: number;
}
