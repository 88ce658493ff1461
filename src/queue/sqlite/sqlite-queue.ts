import type { DatabaseSync } from 'node:sqlite';
import { VitrineError } from '../../errors/vitrine-error.ts';
import { inTransaction } from '../../sqlite/database.ts';
import { groupCalls } from '../group-calls.ts';
import type {
  DeadSelection,
  EnqueuedJob,
  ForgottenProduct,
  JobQueue,
  JobView,
  NewJob,
  ReapResult,
  Renewal,
} from '../port.ts';
import { auditQueue } from './sqlite-queue-audit.ts';
import { createClaim } from './sqlite-queue-claim.ts';
import { createEnqueue } from './sqlite-queue-enqueue.ts';
import { createLedger, type JobRecord } from './sqlite-queue-ledger.ts';
import { createRates, readStats } from './sqlite-queue-stats.ts';
import { createTransitions } from './sqlite-queue-transitions.ts';
import { toJobView } from './sqlite-queue-views.ts';

export interface SqliteQueueSettings {
  /** Greatest number of jobs that have not ended; 0: no limit. */
  readonly maxPending: number;
  /** How long ended jobs are remembered. */
  readonly endedTtlMs: number;
}

/** Dead letters or leases that one transaction handles: other processes wait meanwhile. */
const PART = 500;

type Rows = readonly JobRecord[];

/** The queue in one SQLite file that several processes share. Closing the database is its owner's affair. */
export function createSqliteQueue(
  database: DatabaseSync,
  settings: SqliteQueueSettings,
): Omit<JobQueue, typeof Symbol.asyncDispose> {
  const ledger = createLedger(database);
  const transitions = createTransitions(ledger);
  const rates = createRates(database);
  const addJobs = createEnqueue(database, ledger, settings.maxPending);
  const { claim, promote } = createClaim(database, ledger, transitions.finish);
  const sql = {
    expired: database.prepare("SELECT * FROM jobs WHERE place = 'r' AND leaseUntil <= ? LIMIT ?"),
    forgotten: database.prepare("SELECT id FROM jobs WHERE place IN ('c', 'x') AND endedAt <= ? LIMIT ?"),
    forgetAbsorbed: database.prepare('DELETE FROM absorbed WHERE at <= ?'),
    forgetClaims: database.prepare('DELETE FROM claims WHERE until <= ?'),
    forgetAnswers: database.prepare('DELETE FROM remembered WHERE until <= ?'),
    active: database.prepare("SELECT * FROM jobs WHERE place = 'r' ORDER BY startedAt, id LIMIT ?"),
    dead: database.prepare(
      "SELECT * FROM jobs WHERE place = 'f' AND ord < :before AND (:code = '' OR errorCode = :code) ORDER BY ord DESC LIMIT :limit",
    ),
    deadCount: database.prepare(
      "SELECT count(*) AS n FROM jobs WHERE place = 'f' AND (:code = '' OR errorCode = :code)",
    ),
    deadUntil: database.prepare(
      "SELECT * FROM jobs WHERE place = 'f' AND ord <= :until AND (:code = '' OR errorCode = :code) ORDER BY ord LIMIT :limit",
    ),
    ofProduct: database.prepare(
      "SELECT * FROM jobs WHERE productId = ? AND place IN ('h', 'n', 'l', 's', 'p', 'd', 'r') ORDER BY key",
    ),
    known: database.prepare('SELECT count(*) AS n FROM jobs'),
    answer: database.prepare('SELECT answer FROM remembered WHERE key = ? AND until > ?'),
    remember: database.prepare('INSERT OR REPLACE INTO remembered VALUES (?, ?, ?)'),
  };

  /** One durable transaction; a failure of SQLite becomes `queue_unavailable`. */
  async function write<T>(work: (now: number) => T): Promise<T> {
    try {
      return inTransaction(database, () => work(Date.now()));
    } catch (error) {
      if (error instanceof VitrineError) throw error;
      throw new VitrineError('queue_unavailable', 'The queue file could not be used.', {
        cause: error,
        suggestion: 'Check that DATA_DIR is writable and its disk is not full.',
      });
    }
  }

  const enqueue = groupCalls<readonly NewJob[], readonly EnqueuedJob[]>((calls) =>
    write(() => calls.map((jobs) => addJobs(jobs))),
  );

  async function reap(): Promise<ReapResult> {
    const total = { recovered: 0, poisoned: 0 };
    for (;;) {
      const seen = await write((now) => {
        const expired = sql.expired.all(now, PART) as unknown as Rows;
        for (const { id } of expired) {
          // Read anew: an earlier one of the part may have moved it.
          const job = ledger.find(id);
          const outcome = job?.place === 'r' ? transitions.crash(job, now) : 'ended';
          if (outcome !== 'ended') total[outcome] += 1;
        }
        return Math.max(expired.length, forget(now));
      });
      if (seen < PART) return total;
    }
  }

  function forget(now: number): number {
    const old = sql.forgotten.all(now - settings.endedTtlMs, PART) as unknown as { id: string }[];
    for (const { id } of old) ledger.remove(id);
    sql.forgetAbsorbed.run(now - settings.endedTtlMs);
    sql.forgetClaims.run(now);
    sql.forgetAnswers.run(now);
    return old.length;
  }

  async function emptyDead(
    selection: DeadSelection,
    act: (job: JobRecord, now: number) => boolean,
  ): Promise<number> {
    if (typeof selection === 'object' && 'ids' in selection) {
      return write((now) =>
        countIf(selection.ids, (id) => {
          const job = ledger.find(id);
          return job?.place === 'f' && act(job, now);
        }),
      );
    }
    const code = selection === 'all' ? '' : selection.code;
    // What dies while this goes on is left for another time.
    const until = await write(() => ledger.meta('last'));
    for (let done = 0; ; ) {
      const [seen, changed] = await write((now) => {
        const jobs = sql.deadUntil.all({ until, code, limit: PART }) as unknown as Rows;
        return [
          jobs.length,
          countIf(jobs, ({ id }) => {
            const job = ledger.find(id);
            return job?.place === 'f' && act(job, now);
          }),
        ];
      });
      done += changed;
      if (seen === 0) return done;
    }
  }

  function purge(job: JobRecord): boolean {
    ledger.dropPayload(job.id);
    ledger.remove(job.id);
    return true;
  }

  function view(job: JobRecord, now: number): JobView {
    return toJobView(job, now, ledger.position(job), rates.completedPerSecond(now));
  }

  return {
    enqueue: async (jobs) => (jobs.length === 0 ? [] : enqueue(jobs)),
    claim: (request) => write(() => claim(request)),

    renew: (leases, leaseMs) =>
      write((now) =>
        leases.map(({ id, token }): Renewal => {
          const job = ledger.find(id);
          if (job?.place !== 'r' || job.token !== token) return 'lost';
          job.leaseUntil = now + leaseMs;
          ledger.save(job);
          return job.cancelRequested === 1 ? 'cancel' : 'renewed';
        }),
      ),

    settle: (settlements) =>
      write((now) =>
        settlements.map((settlement) => {
          const before = ledger.find(settlement.id);
          const fresh = before?.place === 'r' && before.token === settlement.token;
          const settled = transitions.settle(settlement, now);
          if (fresh && settled) rates.mark(settlement.kind, now);
          return settled ? 'settled' : 'lost';
        }),
      ),

    reap,

    status: (id) =>
      write((now) => {
        promote(now);
        const job = ledger.find(id) ?? ledger.find(ledger.absorbed(id)?.target ?? '');
        return job === undefined ? null : view(job, now);
      }),

    stats: () =>
      write((now) => {
        promote(now);
        return readStats(database, ledger, rates, now);
      }),

    cancel: (id) =>
      write((now) => {
        const absorbed = ledger.absorbed(id);
        const job = ledger.find(absorbed?.target ?? id);
        // What took its data may carry newer data by now.
        if (absorbed?.superseded === 1 || (absorbed && job && job.version !== absorbed.version))
          return 'ended';
        return job === undefined ? 'unknown' : transitions.cancel(job, now);
      }),

    active: (limit) =>
      write((now) =>
        (sql.active.all(limit) as unknown as Rows).map((job) => toJobView(job, now, null, null)),
      ),

    dead: ({ code = '', limit, cursor }) =>
      write((now) => {
        const before = cursor === undefined ? Number.MAX_SAFE_INTEGER : Number(cursor);
        const found = sql.dead.all({ before, code, limit: limit + 1 }) as unknown as Rows;
        const jobs = found.slice(0, limit);
        const last = jobs.at(-1);
        return {
          jobs: jobs.map((job) => toJobView(job, now, null, null)),
          nextCursor: found.length > limit && last !== undefined ? String(last.ord) : null,
          total: (sql.deadCount.get({ code }) as { n: number }).n,
        };
      }),

    redrive: (selection) => emptyDead(selection, transitions.redrive),
    purgeDead: (selection) => emptyDead(selection, purge),

    forgetProduct: (productId) =>
      write((now) => {
        const versions = new Map<string, number>();
        let cancelled = 0;
        for (const { id } of sql.ofProduct.all(productId) as unknown as Rows) {
          const job = ledger.find(id);
          if (job === undefined) continue;
          versions.set(job.imageId, Math.max(job.version, versions.get(job.imageId) ?? 0));
          if (transitions.cancel(job, now) === 'cancelled') cancelled += 1;
        }
        const images = [...versions].map(([imageId, version]) => ({ imageId, version }));
        return { cancelled, images } satisfies ForgottenProduct;
      }),

    pause: () => write(() => ledger.setMeta('paused', 1)),
    resume: () => write(() => ledger.setMeta('paused', 0)),

    async cleanup() {
      const reaped = await reap();
      return { ...reaped, ...(await write((now) => auditQueue(database, ledger, transitions.finish, now))) };
    },

    flush: () =>
      write(() => {
        const { n } = sql.known.get() as { n: number };
        database.exec(`
          DELETE FROM jobs; DELETE FROM payloads; DELETE FROM absorbed; DELETE FROM rates;
          UPDATE meta SET value = 0 WHERE name = 'turn'`);
        return n;
      }),

    remember: (key, answer, ttlMs) =>
      write((now) => {
        const first = sql.answer.get(key, now) as { answer: string } | undefined;
        if (first !== undefined) return first.answer;
        sql.remember.run(key, answer, now + Math.ceil(ttlMs));
        return null;
      }),

    recall: (key) =>
      write((now) => (sql.answer.get(key, now) as { answer: string } | undefined)?.answer ?? null),

    ping: () => write(() => undefined),
  };
}

function countIf<T>(items: readonly T[], test: (item: T) => boolean): number {
  return items.reduce((sum, item) => sum + (test(item) ? 1 : 0), 0);
}
