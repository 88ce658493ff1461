import { hostname } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import type { JobQueue, JobView } from '../../../src/queue/port.ts';

export interface RecoverySample {
  readonly ms: number;
  /** True when Redis or the vector store was unreachable in between. */
  readonly inOutage: boolean;
}

/** How long each job of a killed worker was without one: until it is leased again, or has ended. */
export interface Recovery {
  readonly samples: readonly RecoverySample[];
  /** Killed workers that held at least one job. */
  readonly killsWithJobs: number;
  noteKill(pid: number): void;
  /** Resolves when the worker holds a job, or when that takes too long. */
  untilBusy(pid: number, withinMs: number): Promise<void>;
  /** Recoveries that overlap it are reported separately. */
  during<T>(outage: () => Promise<T>): Promise<T>;
  /** Watches until the signal is aborted. */
  watch(signal: AbortSignal): Promise<void>;
}

interface Orphan {
  readonly id: string;
  readonly workerId: string;
  readonly killedAt: number;
}

const POLL_MS = 200;
/** A claim that was under way when its worker was killed shows up by then, even if Redis was down. */
const CLAIMS_ARRIVE_MS = 7_000;
/** Until workers are as before an outage: the store's deadline, and a connection's or a breaker's next try. */
const AFTERMATH_MS = 10_000;
const MAX_ACTIVE = 1_000;

export function createRecovery(queue: JobQueue): Recovery {
  const killedAt = new Map<string, number>();
  const orphans = new Map<string, Orphan>();
  const withJobs = new Set<string>();
  const samples: RecoverySample[] = [];
  let outages = 0;
  let lastOutageEnd = Number.NEGATIVE_INFINITY;

  const prefixOf = (pid: number) => `${hostname()}-${pid}-`;
  /** `host-pid-` of the worker, as its id begins. */
  const toPrefix = (workerId: string) => workerId.slice(0, workerId.lastIndexOf('-') + 1);

  const listActive = async () => (await queue.list({ status: 'processing', limit: MAX_ACTIVE })).jobs;

  function noteOrphans(active: readonly JobView[], now: number): void {
    for (const { id, workerId } of active) {
      if (workerId === null || orphans.has(id)) continue;
      const at = killedAt.get(toPrefix(workerId));
      if (at === undefined || now > at + CLAIMS_ARRIVE_MS) continue;
      withJobs.add(toPrefix(workerId));
      orphans.set(id, { id, workerId, killedAt: at });
    }
  }

  async function look(): Promise<void> {
    const active = await listActive();
    const now = performance.now();
    noteOrphans(active, now);
    const holders = new Map(active.map((view) => [view.id, view.workerId]));
    for (const orphan of orphans.values()) {
      if (holders.get(orphan.id) === orphan.workerId) continue;
      const view = await queue.status(orphan.id);
      if (view?.status === 'queued') continue;
      orphans.delete(orphan.id);
      // Taken back, replaced by newer data, and delayed as its producer asked: that says nothing about recovery.
      if (view?.status === 'delayed') continue;
      const inOutage = outages > 0 || lastOutageEnd + AFTERMATH_MS > orphan.killedAt;
      samples.push({ ms: performance.now() - orphan.killedAt, inOutage });
    }
  }

  return {
    samples,
    get killsWithJobs() {
      return withJobs.size;
    },
    noteKill: (pid) => void killedAt.set(prefixOf(pid), performance.now()),
    async untilBusy(pid, withinMs) {
      const deadline = performance.now() + withinMs;
      while (performance.now() < deadline) {
        // Nobody knows while Redis is unreachable.
        const active = await listActive().catch(() => []);
        if (active.some(({ workerId }) => workerId?.startsWith(prefixOf(pid)))) return;
        await delay(5);
      }
    },
    async during(outage) {
      outages++;
      try {
        return await outage();
      } finally {
        outages--;
        lastOutageEnd = performance.now();
      }
    },
    async watch(signal) {
      while (!signal.aborted) {
        // Redis is unreachable at times; what was held then is still leased when it is back.
        await look().catch(() => {});
        await delay(POLL_MS, undefined, { signal }).catch(() => {});
      }
    },
  };
}

/** The p-th percentile by nearest rank; NaN of nothing. */
export function toPercentile(values: readonly number[], p: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil((p / 100) * sorted.length) - 1)] ?? Number.NaN;
}
