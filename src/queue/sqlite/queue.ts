import { setTimeout as delay } from 'node:timers/promises';
import { VitrineError } from '../../errors/vitrine-error.ts';
import type { Logger } from '../../observability/logger.ts';
import {
  inTransaction,
  isBusy,
  openDatabase,
  readSnapshot,
  toSqliteCode,
  writeTransaction,
} from '../../sqlite/database.ts';
import { groupCalls } from '../group-calls.ts';
import {
  type DeadSelection,
  type EnqueuedJob,
  HEARTBEAT_TTL_MS,
  type JobQueue,
  type NewJob,
  type QueueSettings,
  type ReapResult,
  type WorkerReport,
} from '../port.ts';
import {
  DURATIONS_KEPT,
  ENQUEUE_ID_TTL_MS,
  HOST_PACE,
  RATE_WINDOW_S,
  splitJobs,
  toQueueFull,
} from '../shared.ts';
import { type Answer, createLifecycle } from './lifecycle.ts';
import { createTables, ENDED, ensureSchema, IN_LINE, type Job, type Tables } from './tables.ts';
import { countPending, createViews } from './views.ts';

export interface SqliteQueueSettings extends QueueSettings {
  /** Created when it is missing. Several processes of one machine may share it. */
  readonly file: string;
  readonly logger: Logger;
}

/** Jobs that one transaction handles: other processes wait for it, and so does this one's event loop. */
const PART = 50;
/** Characters of inline images that one transaction stores, unless a single one is larger. */
const PART_CHARS = 1_000_000;

/** How often a process looks whether there is new work. */
const WORK_POLL_MS = 10;

/**
 * The queue in one SQLite file, which the first call opens. Each answered call survives a loss of power. Reads take no
 * lock; writes wait for other processes without blocking the event loop.
 */
export function createSqliteQueue(settings: SqliteQueueSettings): JobQueue {
  let opened: Promise<Parts> | undefined;
  let isClosed = false;
  /** How many jobs had ever come when a claim last found none. */
  let arrivedAtEmptyClaim = -1;

  async function using<T>(work: (parts: Parts) => Promise<T>): Promise<T> {
    if (isClosed) throw new VitrineError('queue_unavailable', 'The queue is closed.');
    opened ??= openParts(settings);
    try {
      return await work(
        await opened.catch((error: unknown) => {
          opened = undefined;
          throw error;
        }),
      );
    } catch (error) {
      throw toQueueError(error);
    }
  }

  const write = <T>(work: (parts: Parts) => T): Promise<T> =>
    using((parts) => writeTransaction(parts.database, () => parts.tables.atOneInstant(() => work(parts))));
  const read = <T>(work: (parts: Parts) => T): Promise<T> =>
    using((parts) => readSnapshot(parts.database, () => parts.tables.atOneInstant(() => work(parts))));

  /** As `read`, after delayed jobs whose time has come got in line, unless another process writes just now. */
  const look = <T>(work: (parts: Parts) => T): Promise<T> =>
    using((parts) => {
      const { database, tables, lifecycle } = parts;
      const due = "SELECT 1 FROM jobs WHERE place = 'time' AND availableAt <= ?";
      try {
        if (tables.value(due, Date.now()) === 1)
          inTransaction(database, () => tables.atOneInstant(lifecycle.promote));
      } catch (error) {
        if (!isBusy(error)) throw error;
      }
      return readSnapshot(database, () => tables.atOneInstant(() => work(parts)));
    });

  let enqueued = Promise.withResolvers<void>();

  async function enqueuePart(jobs: readonly NewJob[], maxPending: number, goOn: boolean) {
    const answers = await write((parts) => store(parts, jobs, maxPending, goOn));
    enqueued.resolve();
    enqueued = Promise.withResolvers();
    return answers;
  }

  const split = (jobs: readonly NewJob[]) => splitJobs(jobs, PART, PART_CHARS);

  /** Single jobs of the same moment share a transaction, and with it the wait for the disk. */
  const enqueueOne = groupCalls<NewJob, EnqueuedJob>(split, async (jobs) => {
    const answers = await enqueuePart(jobs, settings.maxPending, true);
    return answers.map((answer) => answer ?? toQueueFull(settings.maxPending));
  });

  async function enqueue(jobs: readonly NewJob[], accepted = false): Promise<readonly EnqueuedJob[]> {
    const [first] = jobs;
    if (first !== undefined && jobs.length === 1 && !accepted) return [await enqueueOne(first)];
    const maxPending = accepted ? 0 : settings.maxPending;
    const stored: EnqueuedJob[] = [];
    for (const part of split(jobs)) {
      const answers = (await enqueuePart(part, maxPending, false)).filter((answer) => answer !== null);
      stored.push(...answers);
      if (answers.length < part.length) break;
    }
    if (stored.length === 0 && first !== undefined) throw toQueueFull(maxPending);
    return stored;
  }

  async function reap(): Promise<ReapResult> {
    const total = { recovered: 0, poisoned: 0 };
    for (;;) {
      const part = await write((parts) => reapPart(parts, settings));
      total.recovered += part.recovered;
      total.poisoned += part.poisoned;
      if (!part.isMore) return total;
    }
  }

  /** Applies `act` to the dead letters in parts; returns for how many it returned true. */
  async function changeDead(
    selection: DeadSelection,
    act: (parts: Parts, job: Job) => boolean,
  ): Promise<number> {
    const ids = await read((parts) => selectDead(parts, selection));
    let changed = 0;
    for (let from = 0; from < ids.length; from += PART) {
      changed += await write((parts) => {
        const jobs = ids.slice(from, from + PART).map(parts.tables.find);
        return jobs.filter((job) => job?.status === 'failed' && act(parts, job)).length;
      });
    }
    return changed;
  }

  /** In parts: jobs that come while it runs may be removed too. */
  async function flush(): Promise<number> {
    let known = 0;
    for (const table of ['jobs', 'absorbed', 'claims', 'remembered']) {
      for (let removed = PART; removed === PART; ) {
        removed = await write(({ tables }) => tables.drop(table, 'true', PART));
        if (table === 'jobs') known += removed;
      }
    }
    await write(({ database }) =>
      database.exec(`
        DELETE FROM hosts; DELETE FROM attempts;
        UPDATE counts SET arrived = n;
        UPDATE meta SET value = 0 WHERE name IN ('turns', 'deadDropped')`),
    );
    return known;
  }

  return {
    enqueue: (jobs, options) => enqueue(jobs, options?.accepted),

    async claim(request) {
      const [claim, arrived] = await write((parts) => [parts.lifecycle.claim(request), countArrived(parts)]);
      if (claim.jobs.length === 0) arrivedAtEmptyClaim = arrived;
      return claim;
    },

    async waitForWork(timeoutMs, signal) {
      const deadline = performance.now() + timeoutMs;
      while (!signal.aborted && !isClosed) {
        const leftMs = deadline - performance.now();
        if (leftMs <= 0 || (await read(countArrived)) !== arrivedAtEmptyClaim) return;
        // What this process enqueues wakes its worker; what others enqueue is seen when it looks.
        await Promise.race([enqueued.promise, delay(Math.min(WORK_POLL_MS, Math.ceil(leftMs)))]);
      }
    },

    renew: (workerId, leases) =>
      write(({ lifecycle }) => {
        lifecycle.noteHeartbeat(workerId);
        return leases.map(lifecycle.renew);
      }),

    settle: (settlements) => write(({ lifecycle }) => settlements.map(lifecycle.settle)),

    reap,

    status: (id) =>
      look(({ tables, lifecycle, views }) => {
        const job = tables.find(id) ?? tables.find(lifecycle.findAbsorbed(id)?.answer.id);
        return job === undefined ? null : views.view(job);
      }),

    stats: () => look(({ views }) => views.stats()),
    list: (request) => look(({ views }) => views.list(request)),
    deliveries: (request) => look(({ views }) => views.deliveries(request)),

    cancel: (id) => write(({ lifecycle }) => lifecycle.cancel(id)),
    redrive: (selection) => changeDead(selection, ({ lifecycle }, job) => lifecycle.redrive(job)),
    purgeDead: (selection) =>
      changeDead(selection, ({ tables }, { id }) => tables.run('DELETE FROM jobs WHERE id = ?', id) === 1),
    forgetProduct: (productId, imageId) =>
      write(({ lifecycle }) => lifecycle.forgetProduct(productId, imageId)),

    jobsOf: (productId) => look(({ views }) => views.jobsOf(productId)),
    nextSequence: () => write(({ tables }) => tables.nextSequence()),

    pause: () => write(({ tables }) => tables.setMeta('paused', 1)),
    resume: () =>
      write(({ tables }) => {
        tables.setMeta('paused', 0);
        // So that those who wait for work look.
        tables.run("UPDATE counts SET arrived = arrived + 1 WHERE place = 'normal'");
      }),

    async cleanup() {
      const reaped = await reap();
      return { ...reaped, ...(await write(repair)) };
    },

    flush,

    remember: (key, value, ttlMs) =>
      write((parts) => {
        const first = recall(parts, key);
        const until = parts.tables.now() + Math.ceil(ttlMs);
        if (first === null)
          parts.tables.run('INSERT OR REPLACE INTO remembered VALUES (?, ?, ?)', key, value, until);
        return first;
      }),
    recall: (key) => read((parts) => recall(parts, key)),

    heartbeat: (report) =>
      write(({ tables }) => {
        const row = [report.id, JSON.stringify(report), tables.now()];
        tables.run('INSERT OR REPLACE INTO workers VALUES (?, ?, ?)', ...row);
      }),
    removeWorker: (id) => write(({ tables }) => void tables.run('DELETE FROM workers WHERE id = ?', id)),
    workers: () =>
      read(({ tables }) => {
        const now = tables.now();
        const listed = 'SELECT report, at FROM workers WHERE at > ? ORDER BY id';
        const rows = tables.all<{ report: string; at: number }>(listed, now - HEARTBEAT_TTL_MS);
        return rows.map(({ report, at }) => ({
          ...(JSON.parse(report) as WorkerReport),
          lastSeenMs: Math.max(0, now - at),
        }));
      }),

    ping: () => read(({ tables }) => void tables.counts()),

    async [Symbol.asyncDispose]() {
      isClosed = true;
      const parts = await opened?.catch(() => undefined);
      if (parts?.database.isOpen === true) parts.database.close();
    },
  };
}

type Parts = Awaited<ReturnType<typeof openParts>>;

async function openParts({ file, logger, lease }: SqliteQueueSettings) {
  const database = openDatabase(file);
  try {
    await ensureSchema(database);
  } catch (error) {
    database.close();
    throw error;
  }
  logger.debug({ file }, 'queue file opened');
  const tables = createTables(database);
  return { database, tables, lifecycle: createLifecycle(tables, lease.leaseMs), views: createViews(tables) };
}

/** Stores jobs in order; null for one that finds no room, where it ends unless it is to go on. */
function store(
  parts: Parts,
  jobs: readonly NewJob[],
  maxPending: number,
  goOn: boolean,
): (EnqueuedJob | null)[] {
  const { tables, lifecycle, views } = parts;
  const hasRoom = () => maxPending === 0 || countPending(tables.counts()) < maxPending;
  const answers: (Answer | null)[] = [];
  for (const job of jobs) {
    answers.push(lifecycle.enqueue(job, hasRoom) ?? null);
    if (answers.at(-1) === null && !goOn) break;
  }
  return answers.map((answer) => answer && { ...answer, ...views.locate(answer.id, jobs.length) });
}

/** How many jobs that may be claimed, now or later, have ever come. */
function countArrived({ tables }: Parts): number {
  const { high, normal, low, suspects, time, host } = tables.counts('arrived');
  return high + normal + low + suspects + time + host;
}

function selectDead({ tables }: Parts, selection: DeadSelection): readonly string[] {
  if (typeof selection === 'object' && 'ids' in selection) return selection.ids;
  const code = selection === 'all' ? null : selection.code;
  const select =
    "SELECT id FROM jobs WHERE status = 'failed' AND (:code IS NULL OR errorCode = :code) ORDER BY since";
  return tables.all<{ id: string }>(select, { code }).map(({ id }) => id);
}

const recall = ({ tables }: Parts, key: string): string | null =>
  tables.value<string>('SELECT value FROM remembered WHERE id = ? AND until > ?', key, tables.now()) ?? null;

// Upkeep ---------------------------------------------------------------------------------------------------------------

/** How long a claim can be repeated, and how long a worker's last heartbeat is of interest. */
const HOUR_MS = 3_600_000;

/** Takes back expired leases, and drops what is kept too long: so much of each at most. */
function reapPart({ tables, lifecycle }: Parts, settings: QueueSettings) {
  const { drop, jobs, run } = tables;
  const now = tables.now();
  const reaped = { recovered: 0, poisoned: 0, ended: 0 };
  const expired = isOutage(tables, settings)
    ? []
    : jobs("SELECT * FROM jobs WHERE place = 'processing' AND leaseUntil <= ? LIMIT ?", now, PART);
  for (const job of expired) {
    const seenAt = tables.value<number>('SELECT at FROM heartbeats WHERE id = ?', job.workerId) ?? 0;
    reaped[lifecycle.expire(job, now - seenAt >= settings.lease.staleHeartbeatMs)] += 1;
  }

  const { completed, cancelled, failed } = tables.counts();
  const excess = (count: number, max: number) => Math.min(PART, count - max);
  const dead = drop('jobs', "status = 'failed' ORDER BY since", excess(failed, settings.maxDead));
  tables.setMeta('deadDropped', tables.meta('deadDropped') + dead);
  const tooMuch = `SELECT id FROM (SELECT id, sum(inlineBytes) OVER (ORDER BY since DESC) AS total
    FROM jobs WHERE status = 'failed' AND inlineBytes > 0) WHERE total > ?`;
  run(`DELETE FROM payloads WHERE id IN (${tooMuch})`, settings.maxDeadInlineBytes);
  run(`UPDATE jobs SET inlineBytes = 0 WHERE id IN (${tooMuch})`, settings.maxDeadInlineBytes);
  run(
    `DELETE FROM hosts WHERE deferredAt <= ?
     AND NOT EXISTS (SELECT 1 FROM jobs WHERE place = 'host' AND host = hosts.host)`,
    now - HOST_PACE.forgetAfterMs,
  );
  const thousandth = 'SELECT id FROM attempts WHERE isCompleted = 1 ORDER BY id DESC LIMIT 1 OFFSET ?';
  const oldAttempts = `id < min(?, coalesce((${thousandth}), 0)) ORDER BY id`;
  const dropped = [
    drop('attempts', oldAttempts, PART, (now - RATE_WINDOW_S * 1_000) * 1_000, DURATIONS_KEPT - 1),
    dead,
    drop('jobs', `${ENDED} ORDER BY since`, excess(completed + cancelled, settings.maxEnded)),
    drop('jobs', `${ENDED} AND since <= ? ORDER BY since`, PART, (now - settings.endedTtlMs) * 1_000),
    drop('absorbed', 'at <= ?', PART, now - ENQUEUE_ID_TTL_MS),
    drop('remembered', 'until <= ?', PART, now),
    ...['claims', 'heartbeats', 'workers'].map((table) => drop(table, 'at <= ?', PART, now - HOUR_MS)),
  ];
  return { ...reaped, isMore: Math.max(expired.length, ...dropped) === PART };
}

/** See LeaseTimes: after a time in which nobody reaped, no lease is taken back before workers could renew it. */
function isOutage({ meta, setMeta, now }: Tables, { lease }: QueueSettings): boolean {
  if (now() - meta('lastReapAt') > lease.outageMs) setMeta('reachableSince', now());
  setMeta('lastReapAt', now());
  return now() - meta('reachableSince') < lease.leaseMs;
}

/** What the tables' own constraints can't hold. */
function repair({ tables, lifecycle }: Parts): { repaired: number; checked: number } {
  const withoutPayload = tables.jobs(
    "SELECT * FROM jobs WHERE status IN ('queued', 'delayed') AND id NOT IN (SELECT id FROM payloads)",
  );
  const misplaced = tables.jobs(
    `SELECT * FROM jobs AS job WHERE (${IN_LINE} OR place = 'host') AND (
       (place = 'sibling') <> EXISTS (SELECT 1 FROM jobs WHERE key = job.key AND place = 'processing')
       OR (place = 'host' AND host NOT IN (SELECT host FROM hosts)))`,
  );
  for (const job of withoutPayload) lifecycle.failUnreadable(job);
  for (const job of misplaced) lifecycle.wait(job);
  const checked = Object.values(tables.counts()).reduce((sum, count) => sum + count);
  return { repaired: withoutPayload.length + misplaced.length, checked };
}

// Errors ---------------------------------------------------------------------------------------------------------------

/** SQLITE_CANTOPEN and the like are outages; a statement that SQLite refuses stays refused (sqlite.org/rescode.html). */
const REFUSED: readonly (number | undefined)[] = [1, 18, 19, 20, 21, 25, undefined];

function toQueueError(error: unknown): VitrineError {
  if (error instanceof VitrineError) return error;
  const cause = { cause: error };
  if (isBusy(error)) {
    return new VitrineError('queue_unavailable', 'Another process has locked the queue file for too long.', {
      ...cause,
      suggestion: 'Try again; if it stays, find the process that holds queue.db open.',
    });
  }
  const isSystemError = error instanceof Error && 'syscall' in error;
  if (!isSystemError && REFUSED.includes(toSqliteCode(error)))
    return new VitrineError('queue_refused', 'The queue file could not store what it was sent.', cause);
  return new VitrineError('queue_unavailable', 'The queue file could not be used.', {
    ...cause,
    suggestion: 'Check that DATA_DIR is writable and its disk is not full.',
  });
}
