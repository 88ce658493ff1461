import type { Priority } from '../job.ts';
import {
  type DeliveriesRequest,
  type JobPage,
  type JobView,
  type ListRequest,
  MAX_JOBS_OF,
  type QueueStats,
} from '../port.ts';
import {
  DURATIONS_KEPT,
  higherThan,
  MAX_LISTED_HOSTS,
  parseCursor,
  RATE_WINDOW_S,
  RECENTLY_DEAD_MS,
  toEtaMs,
  toPercentiles,
} from '../shared.ts';
import { FORGETTABLE, type Host, IN_LINE, IS_DELIVERY, type Job, type Place, type Tables } from './tables.ts';

/** How many jobs behind another one, and before it, are counted for its position. */
const MAX_BEHIND = 100;
const MAX_AHEAD = 10_000;

type Counts = Readonly<Record<Place, number>>;

const countQueued = ({ high, normal, low, suspects, sibling }: Counts): number =>
  high + normal + low + suspects + sibling;
const countDelayed = ({ time, host }: Counts): number => time + host;

/** Jobs that have not ended. */
export const countPending = (counts: Counts): number =>
  countQueued(counts) + countDelayed(counts) + counts.processing;

/** What people see of the queue. Only reads. */
export function createViews(tables: Tables) {
  const { all, counts, find, get, jobs, meta, now, value } = tables;

  /** Null outside a line, and where it would take too long to count: neither near its end nor near enough to its start. */
  function position({ place, turn, sequence }: Job, maxAhead = MAX_AHEAD): number | null {
    if (place !== 'suspects' && place !== 'high' && place !== 'normal' && place !== 'low') return null;
    const count = (comparison: '<' | '>', limit: number) =>
      value<number>(
        `SELECT count(*) FROM (SELECT 1 FROM jobs
         WHERE ${IN_LINE} AND place = ? AND (turn, sequence) ${comparison} (?, ?) LIMIT ?)`,
        ...[place, turn, sequence, limit + 1],
      ) ?? 0;
    const lengths = counts();
    const behind = count('>', MAX_BEHIND);
    const ahead = behind <= MAX_BEHIND ? lengths[place] - behind - 1 : count('<', maxAhead);
    if (behind > MAX_BEHIND && ahead > maxAhead) return null;
    const higher = place === 'suspects' ? [] : higherThan(place);
    return higher.reduce((sum, line) => sum + lengths[line], ahead + 1);
  }

  /** Suspects and follow-ups wait with the others of their priority. */
  function countWaiting(priority: Priority): number {
    const aside = `SELECT count(*) FROM jobs WHERE ${IN_LINE} AND place IN ('suspects', 'sibling') AND priority = ?`;
    return counts()[priority] + (value<number>(aside, priority) ?? 0);
  }

  /** Attempts that ended in the last minute. */
  function readRecent(): { completed: number; ended: number } {
    const recent = 'SELECT total(isCompleted) AS completed, count(*) AS ended FROM attempts WHERE id > ?';
    return get(recent, (now() - RATE_WINDOW_S * 1_000) * 1_000) ?? { completed: 0, ended: 0 };
  }

  function countListed({ status, code }: ListRequest): number {
    const ofCode = 'SELECT count(*) FROM jobs WHERE status = ? AND errorCode = ?';
    if (code !== undefined) return value<number>(ofCode, status, code) ?? 0;
    if (status === 'queued') return countQueued(counts());
    return status === 'delayed' ? countDelayed(counts()) : counts()[status];
  }

  return {
    /** Where one of several jobs is now. One that is gone was purged, or dropped. */
    locate(id: string, jobCount: number): Pick<JobView, 'status' | 'position'> {
      const job = find(id);
      if (job === undefined) return { status: 'failed', position: null };
      return { status: job.status, position: position(job, Math.floor(MAX_AHEAD / jobCount)) };
    },

    view(job: Job): JobView {
      const at = position(job);
      const perSecond = at === null ? 0 : readRecent().completed / RATE_WINDOW_S;
      return toView(job, at, toEtaMs(at, perSecond, meta('paused') === 1));
    },

    jobsOf(productId: string): readonly JobView[] {
      return jobs(
        `SELECT * FROM jobs WHERE productId = ? AND ${FORGETTABLE} ORDER BY imageId, sequence LIMIT ${MAX_JOBS_OF}`,
        productId,
      ).map((job) => toView(job, null, null));
    },

    list(request: ListRequest): JobPage {
      const { status, code = null, limit } = request;
      const isOldestFirst = status === 'processing';
      const cursor = parseCursor(request.cursor) ?? (isOldestFirst ? 0 : Number.MAX_SAFE_INTEGER);
      const rows = jobs(
        `SELECT * FROM jobs WHERE status = :status ${code === null ? '' : 'AND errorCode = :code'}
         AND since ${isOldestFirst ? '>' : '<'} :cursor ORDER BY since ${isOldestFirst ? 'ASC' : 'DESC'} LIMIT :limit`,
        { status, code, cursor, limit: limit + 1 },
      );
      const page = rows.slice(0, limit);
      return {
        // Counting the position of each would take too long.
        jobs: page.map((job) => toView(job, null, null)),
        nextCursor: rows.length > limit ? String(page.at(-1)?.since) : null,
        total: countListed(request),
      };
    },

    deliveries({ limit, cursor }: DeliveriesRequest): JobPage {
      const rows = jobs(
        `SELECT * FROM jobs WHERE ${IS_DELIVERY} AND sequence < ? ORDER BY sequence DESC LIMIT ?`,
        ...[parseCursor(cursor) ?? Number.MAX_SAFE_INTEGER, limit + 1],
      );
      const page = rows.slice(0, limit);
      return {
        jobs: page.map((job) => toView(job, null, null)),
        nextCursor: rows.length > limit ? String(page.at(-1)?.sequence) : null,
        total: value<number>(`SELECT count(*) FROM jobs WHERE ${IS_DELIVERY}`) ?? 0,
      };
    },

    stats(): QueueStats {
      const [present, arrived] = [counts(), counts('arrived')];
      const { completed, ended } = readRecent();
      const recentlyDead = "SELECT count(*) FROM jobs WHERE status = 'failed' AND since >= ?";
      const durations = 'SELECT ms FROM attempts WHERE isCompleted = 1 ORDER BY id DESC LIMIT ?';
      const turns = ['high', 'normal', 'low', 'suspects'].map((line) =>
        value<number | null>(`SELECT min(turn) FROM jobs WHERE ${IN_LINE} AND place = ?`, line),
      );
      const oldest = Math.min(...turns.map((turn) => turn ?? Number.POSITIVE_INFINITY));
      const hosts = all<Host & { waiting: number }>(
        `SELECT *, (SELECT count(*) FROM jobs WHERE place = 'host' AND host = hosts.host) AS waiting
         FROM hosts ORDER BY waiting DESC, host LIMIT ${MAX_LISTED_HOSTS}`,
      );
      return {
        waiting: { high: countWaiting('high'), normal: countWaiting('normal'), low: countWaiting('low') },
        delayed: countDelayed(present),
        processing: present.processing,
        dead: present.failed,
        completed: arrived.completed,
        failed: arrived.failed,
        cancelled: arrived.cancelled,
        deadDropped: meta('deadDropped'),
        completedPerSecond: completed / RATE_WINDOW_S,
        failureRate: ended === 0 ? 0 : 1 - completed / ended,
        recentlyDead: value<number>(recentlyDead, (now() - RECENTLY_DEAD_MS) * 1_000) ?? 0,
        processingMs: toPercentiles(all<{ ms: number }>(durations, DURATIONS_KEPT).map(({ ms }) => ms)),
        oldestWaitingMs:
          oldest === Number.POSITIVE_INFINITY ? null : Math.max(0, now() - Math.floor(oldest / 1_000)),
        hosts: hosts.map(({ host, waiting, nextAt, perSecond }) => ({
          ...{ host, waiting, perSecond },
          nextInMs: Math.max(0, Math.ceil(nextAt - now())),
        })),
        paused: meta('paused') === 1,
      };
    },
  };
}

/** @param at its position */
export function toView(job: Job, at: number | null, etaMs: number | null): JobView {
  const { id, key, productId, imageId, priority, version, attempts, maxAttempts, crashes, stage } = job;
  const { enqueuedAt, availableAt, startedAt, endedAt, processingMs, workerId } = job;
  const { lastError, result, cancelRequested, history, status, delivery } = job;
  return {
    ...{ id, key, productId, imageId, priority, version, attempts, maxAttempts, crashes, stage },
    ...{ enqueuedAt, availableAt, startedAt, endedAt, processingMs, workerId, position: at, etaMs },
    ...{ lastError, result, cancelRequested, history, status, delivery },
  };
}
