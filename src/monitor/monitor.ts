import { EventEmitter, once } from 'node:events';
import type { z } from '@hono/zod-openapi';
import { toVitrineError, type VitrineError } from '../errors/vitrine-error.ts';
import { type QueueState, type QueueStateParts, readQueueState } from '../jobs/queue-state.ts';
import { toWireJob } from '../jobs/wire.ts';
import type { Clock } from '../observability/clock.ts';
import type { JobQueue, JobView } from '../queue/port.ts';
import type { historyMinute } from './schemas.ts';

export interface MonitorParts extends QueueStateParts {
  readonly clock: Clock;
  readonly queue: QueueStateParts['queue'] & Pick<JobQueue, 'list'>;
}

/** A job that ended; or, without one, a mark that more jobs ended at this point than are kept. */
export interface Ended {
  /** The instant of its end and its id: the same in every API process, and after a restart. */
  readonly id: string;
  readonly job: ReturnType<typeof toWireJob> | null;
}

/** What is known of the queue. Each part is replaced when it changes, and never modified. */
export interface Snapshot {
  /** Null before the first answer. */
  readonly stats: QueueState['stats'] | null;
  readonly workers: QueueState['workers'] | null;
  /** Why the queue could not be read the last time. */
  readonly failure: VitrineError | null;
  /** The jobs that ended last, oldest first, at most KEPT. */
  readonly ended: readonly Ended[];
}

export type Minute = z.input<typeof historyMinute>;

/** One view of the queue for all who watch it: however many they are, it is read once per second. */
export interface QueueMonitor extends Disposable {
  snapshot(): Snapshot;
  /** Resolves when the snapshot has changed, after the time, or when the signal is aborted. */
  changed(timeoutMs: number, signal: AbortSignal): Promise<void>;
  /** Reads the queue every second until what it returns is disposed. */
  watch(): Disposable;
  /** Starts to note every minute what the queue did, until the monitor is disposed. */
  startHistory(): void;
  /** The last HISTORY_MINUTES minutes, oldest first. A minute in which the queue could not be read is left out. */
  history(): readonly Minute[];
}

const POLL_MS = 1_000;
const KEPT = 100;
const ENDS = ['completed', 'failed', 'cancelled'] as const;
const MINUTE_MS = 60_000;
export const HISTORY_MINUTES = 60;

export function createQueueMonitor(parts: MonitorParts): QueueMonitor {
  const { clock, queue } = parts;
  const changes = new EventEmitter().setMaxListeners(0);
  const disposed = new AbortController();
  let snapshot: Snapshot = { stats: null, workers: null, failure: null, ended: [] };
  let watchers = 0;
  let isPolling = false;
  let minutes: readonly Minute[] = [];
  let lastMinute: QueueState['stats'] | null = null;

  async function poll(): Promise<void> {
    const before = snapshot;
    try {
      const { stats, workers } = await readQueueState(parts);
      const ended = await readEnded(before, stats);
      snapshot = {
        stats: isSame(before.stats, stats) ? before.stats : stats,
        workers: isSame(withoutAges(before.workers), withoutAges(workers)) ? before.workers : workers,
        failure: null,
        ended: ended.length === 0 ? before.ended : [...before.ended, ...ended].slice(-KEPT),
      };
    } catch (error) {
      const failure = toVitrineError(error);
      snapshot = { ...before, failure: before.failure?.code === failure.code ? before.failure : failure };
    }
    const isChanged = Object.keys(snapshot).some((part) => {
      const name = part as keyof Snapshot;
      return snapshot[name] !== before[name];
    });
    if (isChanged) changes.emit('change');
  }

  /** Lists only the states whose totals have changed. */
  async function readEnded(before: Snapshot, stats: QueueState['stats']): Promise<readonly Ended[]> {
    const statuses = ENDS.filter((status) => stats[status] !== before.stats?.[status]);
    const pages = await Promise.all(statuses.map((status) => queue.list({ status, limit: KEPT })));
    const known = new Set(before.ended.map(({ id }) => id));
    const newest = before.ended.at(-1)?.id ?? '';
    // Jobs of the newest millisecond may come later than others of it.
    const isNew = (id: string) => !known.has(id) && toMs(id) >= toMs(newest);
    const isFirst = before.stats === null;
    const fresh = pages.map((page) => page.jobs.map(toEnded).filter(({ id }) => isNew(id)));
    const ended = fresh.flat().toSorted((a, b) => (a.id < b.id ? -1 : 1));
    const isCut = !isFirst && fresh.some((jobs) => jobs.length === KEPT);
    return isCut ? [{ id: `${toMs(newest)}-gap`, job: null }, ...ended.slice(-KEPT + 1)] : ended;
  }

  async function pollWhileWatched(): Promise<void> {
    if (isPolling) return;
    isPolling = true;
    while (watchers > 0 && !disposed.signal.aborted) {
      await poll();
      await clock.sleep(POLL_MS, disposed.signal);
    }
    isPolling = false;
  }

  async function noteMinute(): Promise<void> {
    const at = new Date(Math.floor(clock.now() / MINUTE_MS) * MINUTE_MS - MINUTE_MS).toISOString();
    const state = await readQueueState(parts).catch(() => null);
    if (state === null) return;
    const { stats } = state;
    const last = lastMinute;
    lastMinute = stats;
    if (last === null) return;
    // A flush resets the totals.
    const since = (name: (typeof ENDS)[number]) => Math.max(0, stats[name] - last[name]);
    const minute: Minute = {
      at,
      completed: since('completed'),
      failed: since('failed'),
      cancelled: since('cancelled'),
      waiting: stats.queue_size,
      delayed: stats.delayed,
      processing: stats.processing,
      dead: stats.dead,
      workers_alive: stats.workers_alive,
    };
    minutes = [...minutes, minute].slice(-HISTORY_MINUTES);
  }

  async function keepHistory(): Promise<void> {
    await noteMinute();
    while (!disposed.signal.aborted) {
      await clock.sleep(MINUTE_MS - (clock.now() % MINUTE_MS), disposed.signal);
      if (!disposed.signal.aborted) await noteMinute();
    }
  }

  return {
    snapshot: () => snapshot,
    async changed(timeoutMs, signal) {
      const end = AbortSignal.any([signal, disposed.signal, AbortSignal.timeout(timeoutMs)]);
      // It rejects only because of the signal.
      await once(changes, 'change', { signal: end }).catch(() => undefined);
    },
    watch() {
      watchers += 1;
      void pollWhileWatched();
      return {
        [Symbol.dispose]() {
          watchers -= 1;
        },
      };
    },
    startHistory() {
      void keepHistory();
    },
    history: () => minutes,
    [Symbol.dispose]: () => disposed.abort(),
  };
}

function toEnded(job: JobView): Ended {
  return { id: `${job.endedAt ?? 0}-${job.id}`, job: toWireJob(job) };
}

/** Of the id of an ended job. */
export const toMs = (id: string): number => Number.parseInt(id, 10) || 0;

const isSame = (a: unknown, b: unknown): boolean => JSON.stringify(a) === JSON.stringify(b);

/** Ages grow all the time: alone they are no news. */
function withoutAges(list: QueueState['workers'] | null) {
  return list?.workers.map((worker) => ({ ...worker, last_seen_ms: 0, uptime_ms: 0 }));
}
