import { VitrineError } from '../../errors/vitrine-error.ts';
import type { Logger } from '../../observability/logger.ts';
import { isBusy, openDatabase, readSnapshot, toSqliteCode, writeTransaction } from '../../sqlite/database.ts';
import { groupCalls } from '../group-calls.ts';
import {
  type DeadSelection,
  type EnqueuedJob,
  HEARTBEAT_TTL_MS,
  type JobQueue,
  type NewJob,
  type QueueSettings,
  type ReapResult,
  type Renewal,
  type WorkerReport,
} from '../port.ts';
import { createClaim } from './claim.ts';
import { createEnqueue } from './enqueue.ts';
import { createJobs } from './jobs.ts';
import { createReap } from './reap.ts';
import { ensureSchema, FLUSH, FORGETTABLE, type JobRow } from './schema.ts';
import { createTransitions } from './transitions.ts';
import { createViews } from './views.ts';

export interface SqliteQueueSettings extends QueueSettings {
  /** Created when it is missing. Several processes of one machine may share it. */
  readonly file: string;
  readonly logger: Logger;
}

/** Jobs that one transaction handles: other processes wait for it, and so does this one's event loop. */
const PART = 100;

/** How often a process looks whether another one has stored work. */
const WORK_POLL_MS = 25;

/**
 * The queue in one SQLite file, which the first call opens. Each answered call survives a loss of power. Reads take no
 * lock; writes wait for other processes without blocking the event loop.
 */
export function createSqliteQueue(settings: SqliteQueueSettings): JobQueue {
  let opened: Promise<Parts> | undefined;
  let isClosed = false;
  const sleepers = new Set<() => void>();
  /** How many jobs had ever come when a claim last found none. */
  let arrivedAtEmptyClaim = -1;

  const open = () => {
    opened ??= openParts(settings).catch((error: unknown) => {
      opened = undefined;
      throw error;
    });
    return opened;
  };

  async function using<T>(work: (parts: Parts) => Promise<T>): Promise<T> {
    if (isClosed) throw new VitrineError('queue_unavailable', 'The queue is closed.');
    try {
      return await work(await open());
    } catch (error) {
      throw toQueueError(error);
    }
  }

  async function write<T>(work: (parts: Parts, now: number) => T): Promise<T> {
    const result = await using((parts) => writeTransaction(parts.database, () => work(parts, Date.now())));
    for (const wakeUp of sleepers) wakeUp();
    return result;
  }

  const read = <T>(work: (parts: Parts, now: number) => T): Promise<T> =>
    using((parts) => readSnapshot(parts.database, () => work(parts, Date.now())));

  /** Calls of the same moment share a transaction, and with it the wait for the disk. */
  const enqueuePart = groupCalls<EnqueueCall, readonly EnqueuedJob[]>((calls) =>
    write((parts) => calls.map(({ jobs, maxPending }) => parts.enqueue(jobs, maxPending))),
  );

  async function enqueue(jobs: readonly NewJob[], maxPending: number): Promise<readonly EnqueuedJob[]> {
    const answers: EnqueuedJob[] = [];
    for (let from = 0; from < jobs.length; from += PART) {
      const part = jobs.slice(from, from + PART);
      try {
        answers.push(...(await enqueuePart({ jobs: part, maxPending })));
      } catch (error) {
        if (answers.length > 0 && error instanceof VitrineError && error.code === 'queue_full') break;
        throw error;
      }
      if (answers.length < from + part.length) break;
    }
    return answers;
  }

  async function reap(): Promise<ReapResult> {
    const total = { recovered: 0, poisoned: 0 };
    for (;;) {
      const part = await write((parts, now) => parts.reap.part(PART, now));
      total.recovered += part.recovered;
      total.poisoned += part.poisoned;
      if (!part.isMore) return total;
    }
  }

  /** Applies `act` to the dead letters in parts; returns for how many it returned true. */
  async function changeDead(
    selection: DeadSelection,
    act: (parts: Parts, job: JobRow, now: number) => boolean,
  ): Promise<number> {
    const ids = await read((parts) => selectDead(parts, selection));
    let changed = 0;
    for (let from = 0; from < ids.length; from += PART) {
      const part = ids.slice(from, from + PART);
      changed += await write((parts, now) => {
        const dead = (id: string) => [parts.jobs.find(id)].filter((job) => job?.status === 'failed');
        return part.flatMap(dead).filter((job) => job !== undefined && act(parts, job, now)).length;
      });
    }
    return changed;
  }

  function sleep(ms: number, signal: AbortSignal): Promise<void> {
    return new Promise((resolve) => {
      const wakeUp = () => {
        clearTimeout(timer);
        sleepers.delete(wakeUp);
        signal.removeEventListener('abort', wakeUp);
        resolve();
      };
      const timer = setTimeout(wakeUp, ms);
      sleepers.add(wakeUp);
      signal.addEventListener('abort', wakeUp);
    });
  }

  return {
    enqueue: (jobs, options) => enqueue(jobs, options?.accepted === true ? 0 : settings.maxPending),

    async claim(request) {
      const claim = await write((parts, now) => {
        const result = parts.claim(request, now);
        if (result.jobs.length > 0) beat(parts, request.workerId, now);
        return { ...result, arrived: countArrived(parts) };
      });
      const { arrived, ...result } = claim;
      if (result.jobs.length === 0) arrivedAtEmptyClaim = arrived;
      return result;
    },

    async waitForWork(timeoutMs, signal) {
      const deadline = performance.now() + timeoutMs;
      for (;;) {
        const leftMs = deadline - performance.now();
        if (signal.aborted || isClosed || leftMs <= 0) return;
        if ((await read(countArrived)) !== arrivedAtEmptyClaim) return;
        if (!signal.aborted) await sleep(Math.min(WORK_POLL_MS, Math.ceil(leftMs)), signal);
      }
    },

    renew: (workerId, leases) =>
      write((parts, now) => {
        const { jobs } = parts;
        beat(parts, workerId, now);
        return leases.map(({ id, token, stage }): Renewal => {
          const job = jobs.find(id);
          if (job?.status !== 'processing' || job.token !== token) return 'lost';
          jobs.save({ ...job, stage, leaseUntil: now + settings.lease.leaseMs });
          return job.cancelRequested === 1 ? 'cancel' : 'renewed';
        });
      }),

    settle: (settlements) =>
      write(({ transitions }, now) =>
        settlements.map((settlement) => (transitions.settle(settlement, now) ? 'settled' : 'lost')),
      ),

    reap,

    status: (id) =>
      read(({ jobs, views, findAbsorbed }, now) => {
        const job = jobs.find(id) ?? jobs.find(findAbsorbed(id)?.target ?? '');
        return job === undefined ? null : views.view(job, now);
      }),

    stats: () => read(({ views }, now) => views.stats(now)),
    list: (request) => read(({ views }, now) => views.list(request, now)),
    deliveries: (request) => read(({ views }, now) => views.deliveries(request, now)),

    cancel: (id) =>
      write(({ jobs, transitions, findAbsorbed }, now) => {
        const absorbed = findAbsorbed(id);
        const job = jobs.find(absorbed?.target ?? id);
        if (job === undefined) return absorbed === undefined ? 'unknown' : 'ended';
        const carriesOther = absorbed?.replaced === 0 || (absorbed && job.sequence !== absorbed.sequence);
        return carriesOther ? 'ended' : transitions.cancel(job, now);
      }),

    redrive: (selection) =>
      changeDead(selection, ({ transitions }, job, now) => transitions.redrive(job, now)),
    purgeDead: (selection) =>
      changeDead(selection, ({ jobs }, job) => {
        jobs.remove(job.id);
        return true;
      }),

    forgetProduct: (productId) =>
      write(({ jobs, transitions }, now) => {
        const found = jobs.all<JobRow>(
          `SELECT * FROM jobs WHERE productId = ? AND ${FORGETTABLE} ORDER BY key`,
          productId,
        );
        const waiting = found.filter(({ status }) => status !== 'processing');
        for (const job of waiting) transitions.finish(job, 'cancelled', now);
        for (const job of found) if (job.status === 'processing') transitions.cancel(job, now);
        return {
          sequence: jobs.nextSequence(),
          cancelled: waiting.length,
          imageIds: [...new Set(found.map(({ imageId }) => imageId))],
        };
      }),

    pause: () => write(({ jobs }) => jobs.setMeta('paused', 1)),
    resume: () =>
      write(({ jobs }) => {
        jobs.setMeta('paused', 0);
        jobs.run("UPDATE counts SET arrived = arrived + 1 WHERE place = 'normal'");
      }),

    async cleanup() {
      const reaped = await reap();
      return write((parts, now) => ({
        ...reaped,
        repaired: parts.reap.repair(now),
        checked: countAll(parts),
      }));
    },

    flush: () =>
      write((parts) => {
        const known = countAll(parts);
        parts.database.exec(FLUSH);
        return known;
      }),

    remember: (key, value, ttlMs) =>
      write((parts, now) => {
        const first = recall(parts, key, now);
        const until = now + Math.ceil(ttlMs);
        if (first === null)
          parts.jobs.run('INSERT OR REPLACE INTO remembered VALUES (?, ?, ?)', key, value, until);
        return first;
      }),
    recall: (key) => read((parts, now) => recall(parts, key, now)),

    heartbeat: (report) =>
      write(({ jobs }, now) => {
        jobs.run('INSERT OR REPLACE INTO workers VALUES (?, ?, ?)', report.id, JSON.stringify(report), now);
      }),
    removeWorker: (id) => write(({ jobs }) => void jobs.run('DELETE FROM workers WHERE id = ?', id)),
    workers: () =>
      read(({ jobs }, now) => {
        const listed = 'SELECT report, seenAt FROM workers WHERE seenAt > ? ORDER BY id';
        const rows = jobs.all<{ report: string; seenAt: number }>(listed, now - HEARTBEAT_TTL_MS);
        return rows.map(({ report, seenAt }) => ({
          ...(JSON.parse(report) as WorkerReport),
          lastSeenMs: Math.max(0, now - seenAt),
        }));
      }),

    ping: () => read(({ jobs }) => void jobs.counts()),

    async [Symbol.asyncDispose]() {
      isClosed = true;
      for (const wakeUp of sleepers) wakeUp();
      const parts = await opened?.catch(() => undefined);
      if (parts?.database.isOpen === true) parts.database.close();
    },
  };
}

interface EnqueueCall {
  readonly jobs: readonly NewJob[];
  /** 0: no limit. */
  readonly maxPending: number;
}

type Parts = Awaited<ReturnType<typeof openParts>>;

async function openParts(settings: SqliteQueueSettings) {
  const { file, logger, lease } = settings;
  const database = openDatabase(file);
  try {
    await ensureSchema(database);
  } catch (error) {
    database.close();
    throw error;
  }
  logger.debug({ file }, 'queue file opened');
  const jobs = createJobs(database);
  const transitions = createTransitions(jobs);
  const enqueue = createEnqueue(jobs, transitions);
  const claim = createClaim(jobs, transitions, lease.leaseMs);
  const [reap, views] = [createReap(jobs, transitions, settings), createViews(jobs)];
  return { database, jobs, transitions, ...enqueue, claim, reap, views };
}

/** How many jobs that may be claimed, now or later, have ever come. */
const countArrived = ({ jobs }: Parts): number =>
  jobs.get<{ n: number }>(
    "SELECT sum(arrived) AS n FROM counts WHERE place IN ('high', 'normal', 'low', 'suspects', 'time', 'host')",
  )?.n ?? 0;

const countAll = ({ jobs }: Parts): number =>
  jobs.get<{ n: number }>('SELECT count(*) AS n FROM jobs')?.n ?? 0;

function selectDead({ jobs }: Parts, selection: DeadSelection): readonly string[] {
  if (typeof selection === 'object' && 'ids' in selection) return selection.ids;
  const code = selection === 'all' ? null : selection.code;
  return jobs
    .all<JobRow>(
      "SELECT id FROM jobs WHERE status = 'failed' AND (:code IS NULL OR errorCode = :code) ORDER BY since",
      { code },
    )
    .map(({ id }) => id);
}

const recall = ({ jobs }: Parts, key: string, now: number): string | null =>
  jobs.get<{ value: string }>('SELECT value FROM remembered WHERE key = ? AND until > ?', key, now)?.value ??
  null;

const beat = ({ jobs }: Parts, workerId: string, now: number) =>
  void jobs.run('INSERT OR REPLACE INTO heartbeats VALUES (?, ?)', workerId, now);

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
