import { type JobError, type JobResult, type JobStatus, PRIORITIES, type Priority } from '../job.ts';
import type {
  AttemptRecord,
  DeliveriesRequest,
  Delivery,
  JobPage,
  JobView,
  ListRequest,
  QueueStats,
} from '../port.ts';
import {
  MAX_LISTED_HOSTS,
  parseCursor,
  RATE_WINDOW_S,
  RECENTLY_DEAD_MS,
  toEtaMs,
  toPercentiles,
} from '../shared.ts';
import { countDelayed, countQueued, type Jobs, parseJson, toStatus } from './jobs.ts';
import { IN_LINE, type JobRow } from './schema.ts';
import type { Host } from './transitions.ts';

type PriorityCounts = Record<Priority, number>;

/** What people see of the queue. Only reads; delayed jobs whose time has come are shown as queued. */
export function createViews(jobs: Jobs) {
  function countByPriority(condition: string, now: number): PriorityCounts {
    const rows = jobs.all<{ priority: Priority; n: number }>(
      `SELECT priority, count(*) AS n FROM jobs WHERE ${condition} GROUP BY priority`,
      { now },
    );
    const counts: PriorityCounts = { high: 0, normal: 0, low: 0 };
    for (const { priority, n } of rows) counts[priority] = n;
    return counts;
  }

  /** Delayed jobs whose time has come, and that no claim has moved yet. */
  const countDue = (now: number) => countByPriority("place = 'time' AND availableAt <= :now", now);

  function readRates(now: number): { completed: number; ended: number } {
    const second = Math.floor(now / 1_000);
    const sums = jobs.get<{ completed: number; ended: number }>(
      'SELECT total(completed) AS completed, total(ended) AS ended FROM rates WHERE second > ? AND second <= ?',
      ...[second - RATE_WINDOW_S, second],
    );
    return sums ?? { completed: 0, ended: 0 };
  }

  function countListed({ status, code }: ListRequest, now: number): number {
    const byPlace = jobs.counts();
    if (status === 'queued') return countQueued(byPlace) + sum(countDue(now));
    if (status === 'delayed') return countDelayed(byPlace) - sum(countDue(now));
    if (code === undefined) return byPlace[status];
    const ofCode = 'SELECT count(*) AS n FROM jobs WHERE status = ? AND errorCode = ?';
    return jobs.get<{ n: number }>(ofCode, status, code)?.n ?? 0;
  }

  return {
    view(job: JobRow, now: number): JobView {
      const position = jobs.position(job);
      const perSecond = readRates(now).completed / RATE_WINDOW_S;
      const etaMs = toEtaMs(position, perSecond, jobs.meta('paused') === 1);
      return { ...toView(job, toStatus(job, now), position), etaMs };
    },

    list(request: ListRequest, now: number): JobPage {
      const { status, code = null, limit } = request;
      const isOldestFirst = status === 'processing';
      const [after, order] = isOldestFirst ? ['>', 'ASC'] : ['<', 'DESC'];
      const cursor = parseCursor(request.cursor) ?? (isOldestFirst ? 0 : Number.MAX_SAFE_INTEGER);
      const selectPage = (condition: string) =>
        `SELECT * FROM (SELECT * FROM jobs WHERE ${condition} AND since ${after} :cursor
         ORDER BY since ${order} LIMIT :limit)`;
      const ofStatus = selectPage(`status = :status ${code === null ? '' : 'AND errorCode = :code'}`);
      const query = {
        queued: `${ofStatus} UNION ALL ${selectPage("place = 'time' AND availableAt <= :now")}`,
        delayed: selectPage("status = :status AND (place = 'host' OR availableAt > :now)"),
      };
      const rows = jobs.all<JobRow>(
        `${status === 'queued' || status === 'delayed' ? query[status] : ofStatus}
         ORDER BY since ${order} LIMIT :limit`,
        { status, code, cursor, now, limit: limit + 1 },
      );
      const page = rows.slice(0, limit);
      return {
        // Counting the position of each would take too long.
        jobs: page.map((job) => toView(job, toStatus(job, now), null)),
        nextCursor: rows.length > limit ? String(page.at(-1)?.since) : null,
        total: countListed(request, now),
      };
    },

    deliveries({ limit, cursor }: DeliveriesRequest, now: number): JobPage {
      const rows = jobs.all<JobRow>(
        `SELECT * FROM jobs WHERE delivers IS NOT NULL AND sequence < :cursor
         ORDER BY sequence DESC LIMIT :limit`,
        { cursor: parseCursor(cursor) ?? Number.MAX_SAFE_INTEGER, limit: limit + 1 },
      );
      const page = rows.slice(0, limit);
      const count = jobs.get<{ n: number }>('SELECT count(*) AS n FROM jobs WHERE delivers IS NOT NULL');
      return {
        jobs: page.map((job) => toView(job, toStatus(job, now), null)),
        nextCursor: rows.length > limit ? String(page.at(-1)?.sequence) : null,
        total: count?.n ?? 0,
      };
    },

    stats(now: number): QueueStats {
      const byPlace = jobs.counts();
      const { completed, ended } = readRates(now);
      const due = countDue(now);
      const aside = countByPriority(`${IN_LINE} AND place IN ('suspects', 'sibling')`, now);
      const waiting = (priority: Priority) => byPlace[priority] + aside[priority] + due[priority];
      const turns = (['high', 'normal', 'low', 'suspects'] as const).flatMap(
        (line) => jobs.head(line)?.turn ?? [],
      );
      const recentlyDead = jobs.get<{ n: number }>(
        "SELECT count(*) AS n FROM jobs WHERE status = 'failed' AND since >= ?",
        (now - RECENTLY_DEAD_MS) * 1_000,
      );
      const durations = jobs.all<{ ms: number }>('SELECT ms FROM durations');
      const hosts = jobs.all<Host & { waiting: number }>(
        `SELECT *, (SELECT count(*) FROM jobs WHERE place = 'host' AND host = hosts.host) AS waiting
         FROM hosts ORDER BY waiting DESC, host LIMIT ${MAX_LISTED_HOSTS}`,
      );
      return {
        waiting: { high: waiting('high'), normal: waiting('normal'), low: waiting('low') },
        delayed: countDelayed(byPlace) - sum(due),
        processing: byPlace.processing,
        dead: byPlace.failed,
        completed: jobs.meta('completed'),
        failed: jobs.meta('failed'),
        cancelled: jobs.meta('cancelled'),
        deadDropped: jobs.meta('deadDropped'),
        completedPerSecond: completed / RATE_WINDOW_S,
        failureRate: ended === 0 ? 0 : 1 - completed / ended,
        recentlyDead: recentlyDead?.n ?? 0,
        processingMs: toPercentiles(durations.map(({ ms }) => ms)),
        oldestWaitingMs:
          turns.length === 0 ? null : Math.max(0, now - Math.floor(Math.min(...turns) / 1_000)),
        hosts: hosts.map(({ host, waiting, nextAt, perSecond }) => ({
          ...{ host, waiting, perSecond },
          nextInMs: Math.max(0, Math.ceil(nextAt - now)),
        })),
        paused: jobs.meta('paused') === 1,
      };
    },
  };
}

/** The job without an estimate of its wait. */
export function toView(job: JobRow, status: JobStatus, position: number | null): JobView {
  const { id, key, productId, imageId, priority, version, attempts, maxAttempts, crashes } = job;
  const { enqueuedAt, availableAt, startedAt, endedAt, processingMs, workerId, stage } = job;
  return {
    ...{ id, key, productId, imageId, priority, version, attempts, maxAttempts, crashes, stage },
    ...{ enqueuedAt, availableAt, startedAt, endedAt, processingMs, workerId, position, status },
    etaMs: null,
    delivery: parseJson<Delivery>(job.delivers) ?? null,
    lastError: parseJson<JobError>(job.error) ?? null,
    result: parseJson<JobResult>(job.result) ?? null,
    cancelRequested: job.cancelRequested === 1,
    history: parseJson<AttemptRecord[]>(job.history) ?? [],
  };
}

const sum = (counts: PriorityCounts): number =>
  PRIORITIES.reduce((total, priority) => total + counts[priority], 0);
