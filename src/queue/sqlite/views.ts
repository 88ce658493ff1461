import type { DatabaseSync } from 'node:sqlite';
import { type JobError, type JobResult, PRIORITIES, type Priority } from '../job.ts';
import type { HostPause, JobPage, JobView, ListRequest, QueueStats } from '../port.ts';
import {
  MAX_LISTED_HOSTS,
  parseCursor,
  RATE_WINDOW_S,
  RECENTLY_DEAD_MS,
  toEtaMs,
  toPercentiles,
} from '../shared.ts';
import { countDelayed, type Jobs, toStatus } from './jobs.ts';
import { IN_LINE, type JobRow } from './schema.ts';
import { parseHistory } from './transitions.ts';

const DUE = "place = 'time' AND availableAt <= :now";
const NOT_DUE = "status = 'delayed' AND (place = 'host' OR availableAt > :now)";

/** What people see of the queue. Only reads; delayed jobs whose time has come are shown as queued. */
export function createViews(database: DatabaseSync, jobs: Jobs) {
  const sql = {
    rates: database.prepare(
      'SELECT total(completed) AS completed, total(ended) AS ended FROM rates WHERE second > ? AND second <= ?',
    ),
    durations: database.prepare('SELECT ms FROM durations'),
    due: database.prepare(`SELECT priority, count(*) AS n FROM jobs WHERE ${DUE} GROUP BY priority`),
    aside: database.prepare(
      "SELECT priority, count(*) AS n FROM jobs WHERE (place = 'sibling' OR place = 'suspects') GROUP BY priority",
    ),
    recentlyDead: database.prepare("SELECT count(*) AS n FROM jobs WHERE status = 'failed' AND since >= ?"),
    oldest: database.prepare(`SELECT min(turn) AS turn FROM jobs WHERE ${IN_LINE} AND place = ?`),
    hosts: database.prepare(
      `SELECT *, (SELECT count(*) FROM jobs WHERE place = 'host' AND host = hosts.host) AS waiting
       FROM hosts ORDER BY waiting DESC, host LIMIT ${MAX_LISTED_HOSTS}`,
    ),
    deadOfCode: database.prepare("SELECT count(*) AS n FROM jobs WHERE status = 'failed' AND errorCode = ?"),
  };

  function readRates(now: number): { completed: number; ended: number } {
    const second = Math.floor(now / 1_000);
    return sql.rates.get(second - RATE_WINDOW_S, second) as { completed: number; ended: number };
  }

  /** @param position null outside lists too: counting one for each job of a page would take too long */
  function toView(job: JobRow, now: number, position: number | null, etaMs: number | null): JobView {
    const { id, key, productId, imageId, priority, version, attempts, maxAttempts, crashes } = job;
    const { enqueuedAt, availableAt, startedAt, endedAt, processingMs, workerId, stage } = job;
    return {
      ...{ id, key, productId, imageId, priority, version, attempts, maxAttempts, crashes, stage },
      ...{ enqueuedAt, availableAt, startedAt, endedAt, processingMs, workerId, position, etaMs },
      status: toStatus(job, now),
      lastError: job.error === null ? null : (JSON.parse(job.error) as JobError),
      result: job.result === null ? null : (JSON.parse(job.result) as JobResult),
      cancelRequested: job.cancelRequested === 1,
      history: parseHistory(job.history),
    };
  }
  const countBy = (rows: unknown, priority: Priority) =>
    (rows as { priority: Priority; n: number }[]).find((row) => row.priority === priority)?.n ?? 0;
  const countDue = (now: number) =>
    PRIORITIES.reduce((sum, priority) => sum + countBy(sql.due.all({ now }), priority), 0);

  function countListed({ status, code }: ListRequest, now: number): number {
    const byPlace = jobs.counts();
    if (status === 'queued') {
      const { high, normal, low, suspects, sibling } = byPlace;
      return high + normal + low + suspects + sibling + countDue(now);
    }
    if (status === 'delayed') return countDelayed(byPlace) - countDue(now);
    if (status === 'failed' && code !== undefined) return (sql.deadOfCode.get(code) as { n: number }).n;
    return byPlace[status];
  }

  return {
    view(job: JobRow, now: number): JobView {
      const position = jobs.position(job);
      const perSecond = readRates(now).completed / RATE_WINDOW_S;
      return toView(job, now, position, toEtaMs(position, perSecond, jobs.meta('paused') === 1));
    },

    list(request: ListRequest, now: number): JobPage {
      const { status, code, limit } = request;
      const cursor = parseCursor(request.cursor);
      const [after, order] = status === 'processing' ? ['>', 'ASC'] : ['<', 'DESC'];
      const select = (condition: string) =>
        `SELECT * FROM (SELECT * FROM jobs WHERE ${condition} AND (:cursor IS NULL OR since ${after} :cursor)
         ORDER BY since ${order} LIMIT :limit)`;
      const parts =
        status === 'queued'
          ? ["status = 'queued'", DUE]
          : status === 'delayed'
            ? [NOT_DUE]
            : [`status = '${status}' ${code === undefined ? '' : 'AND errorCode = :code'}`];
      const query = `${parts.map(select).join(' UNION ALL ')} ORDER BY since ${order} LIMIT :limit`;
      const statement = database.prepare(query);
      statement.setAllowUnknownNamedParameters(true);
      const rows = statement.all({
        now,
        cursor,
        code: code ?? null,
        limit: limit + 1,
      }) as unknown as JobRow[];
      const page = rows.slice(0, limit);
      return {
        jobs: page.map((job) => toView(job, now, null, null)),
        nextCursor: rows.length > limit ? String(page.at(-1)?.since) : null,
        total: countListed(request, now),
      };
    },

    stats(now: number): QueueStats {
      const byPlace = jobs.counts();
      const { completed, ended } = readRates(now);
      const [due, aside] = [sql.due.all({ now }), sql.aside.all()];
      const waiting = (priority: Priority) =>
        byPlace[priority] + countBy(aside, priority) + countBy(due, priority);
      const turns = [...PRIORITIES, 'suspects']
        .map((line) => (sql.oldest.get(line) as { turn: number | null }).turn)
        .filter((turn) => turn !== null);
      const hosts = sql.hosts.all() as unknown as {
        host: string;
        waiting: number;
        nextAt: number;
        perSecond: number;
      }[];
      return {
        waiting: { high: waiting('high'), normal: waiting('normal'), low: waiting('low') },
        delayed: countDelayed(byPlace) - countDue(now),
        processing: byPlace.processing,
        dead: byPlace.failed,
        completed: jobs.meta('completed'),
        failed: jobs.meta('failed'),
        cancelled: jobs.meta('cancelled'),
        deadDropped: jobs.meta('deadDropped'),
        completedPerSecond: completed / RATE_WINDOW_S,
        failureRate: ended === 0 ? 0 : 1 - completed / ended,
        recentlyDead: (sql.recentlyDead.get((now - RECENTLY_DEAD_MS) * 1_000) as { n: number }).n,
        processingMs: toPercentiles((sql.durations.all() as unknown as { ms: number }[]).map(({ ms }) => ms)),
        oldestWaitingMs:
          turns.length === 0 ? null : Math.max(0, now - Math.floor(Math.min(...turns) / 1_000)),
        hosts: hosts.map(({ host, waiting, nextAt, perSecond }): HostPause => {
          return { host, waiting, nextInMs: Math.max(0, Math.ceil(nextAt - now)), perSecond };
        }),
        paused: jobs.meta('paused') === 1,
      };
    },
  };
}
