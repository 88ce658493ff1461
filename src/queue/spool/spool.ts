import { DatabaseSync, type SQLInputValue } from 'node:sqlite';
import { VitrineError } from '../../errors/vitrine-error.ts';
import type { Clock } from '../../observability/clock.ts';
import {
  blockWhileBusy,
  createStatements,
  inTransaction,
  isBusy,
  openDatabase,
  writeTransaction,
} from '../../sqlite/database.ts';
import type { JobError } from '../job.ts';
import type { NewJob } from '../port.ts';

export interface SpooledJob {
  /** When it was accepted: microseconds of this machine's clock, each greater than the last. Also its order. */
  readonly acceptedUs: number;
  /**
   * `waiting`: never sent. `sent`: the queue may have it, since a reply may have been lost. `cancelling`: cancelled
   * after it was sent, or with a callback address, so that the queue must hear of it. The other two are ends, remembered for a day.
   */
  readonly state: 'waiting' | 'sent' | 'cancelling' | 'cancelled' | 'refused';
  readonly bytes: number;
  /** Epoch milliseconds; null while it waits for the queue. */
  readonly endedAt: number | null;
  readonly error: JobError | null;
  /** Without its image once it has ended. */
  readonly job: NewJob;
}

/** A cancelled job of which the queue never heard, and need not hear: nobody wants its end reported. */
const ENDS_HERE = "state = 'waiting' AND job ->> '$.callbackUrl' IS NULL";

const FORMAT = 1;
const REMEMBER_ENDED_MS = 86_400_000;

/** The triggers keep totals, so that nothing ever counts the rows. */
const SCHEMA = `
CREATE TABLE spooled (
  acceptedUs INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, productId TEXT NOT NULL, state TEXT NOT NULL,
  bytes INTEGER NOT NULL, endedAt INTEGER, error TEXT NOT NULL DEFAULT 'null', job TEXT NOT NULL
) STRICT;
CREATE INDEX spooledOpen ON spooled (acceptedUs) WHERE endedAt IS NULL;
CREATE INDEX spooledEnded ON spooled (endedAt) WHERE endedAt IS NOT NULL;
CREATE INDEX spooledProduct ON spooled (productId);
CREATE TABLE totals (open INTEGER NOT NULL, bytes INTEGER NOT NULL) STRICT;
INSERT INTO totals VALUES (0, 0);
CREATE TRIGGER spooledAdded AFTER INSERT ON spooled BEGIN
  UPDATE totals SET open = open + 1, bytes = bytes + NEW.bytes;
END;
CREATE TRIGGER spooledRemoved AFTER DELETE ON spooled BEGIN
  UPDATE totals SET open = open - (OLD.endedAt IS NULL), bytes = bytes - OLD.bytes;
END;
CREATE TRIGGER spooledEnd AFTER UPDATE OF endedAt ON spooled WHEN NEW.endedAt IS NOT NULL BEGIN
  UPDATE totals SET open = open - 1, bytes = bytes - OLD.bytes;
  UPDATE spooled SET bytes = 0, job = json_set(job, '$.data.image', json('{"kind":"inline","base64":""}'))
    WHERE acceptedUs = NEW.acceptedUs;
END;
PRAGMA user_version = ${FORMAT}`;

/**
 * Accepted jobs in a file that several processes may share, durable once a method has resolved. Methods throw what
 * SQLite throws.
 * @throws VitrineError `queue_format` when the file is of another version of Vitrine
 */
export function openSpool(file: string, maxBytes: number, clock: Clock) {
  const database = openDatabase(file);
  blockWhileBusy(() => inTransaction(database, () => createTables(database)));
  const { all, get, run } = createStatements(database);
  const readTotals = () =>
    get<{ open: number; bytes: number }>('SELECT * FROM totals') ?? { open: 0, bytes: 0 };
  const select = (sql: string, ...values: SQLInputValue[]) => all<Row>(sql, ...values).map(toSpooledJob);

  let count = readTotals().open;
  const refresh = () => {
    count = readTotals().open;
  };
  async function change<T>(work: () => T): Promise<T> {
    const result = await writeTransaction(database, work);
    refresh();
    return result;
  }

  return {
    /** Jobs that wait for the queue, without I/O: as of this process's last change or `refresh`. */
    count: () => count,
    refresh,
    find: (id: string) => select('SELECT * FROM spooled WHERE id = ?', id)[0] ?? null,
    /**
     * Adds all or none; a job that is already there stays as it is.
     * @throws VitrineError `spool_full`
     */
    add: (jobs: readonly NewJob[], state: 'waiting' | 'sent') =>
      change(() => {
        run('DELETE FROM spooled WHERE endedAt < ?', clock.now() - REMEMBER_ENDED_MS);
        for (const job of jobs) {
          const text = JSON.stringify(job);
          run(
            `INSERT OR IGNORE INTO spooled (acceptedUs, id, productId, state, bytes, job)
             SELECT max(?, 1 + coalesce(max(acceptedUs), 0)), ?, ?, ?, ?, ? FROM spooled`,
            ...[
              Math.round(clock.now() * 1_000),
              job.id,
              job.data.productId,
              state,
              Buffer.byteLength(text),
              text,
            ],
          );
        }
        if (readTotals().bytes <= maxBytes) return;
        const detail = `Redis is unreachable, and ${Math.round(maxBytes / 1e6)} MB of jobs already wait for it.`;
        throw new VitrineError('spool_full', detail, { retryAfterMs: 30_000 });
      }),
    /** The first jobs, at least one if there are any; those that were waiting are `sent` from now on. */
    take: (maxJobs: number, maxBatchBytes: number) =>
      change(() => {
        const jobs = select(
          `SELECT spooled.* FROM spooled JOIN (
             SELECT acceptedUs, sum(bytes) OVER (ORDER BY acceptedUs) AS total FROM (
               SELECT acceptedUs, bytes FROM spooled WHERE endedAt IS NULL ORDER BY acceptedUs LIMIT ?)
           ) USING (acceptedUs) WHERE total <= ? OR total = bytes ORDER BY acceptedUs`,
          ...[maxJobs, maxBatchBytes],
        );
        const last = jobs.at(-1)?.acceptedUs ?? 0;
        run(
          "UPDATE spooled SET state = 'sent' WHERE state = 'waiting' AND endedAt IS NULL AND acceptedUs <= ?",
          last,
        );
        return jobs;
      }),
    /** Removes what the queue has taken, except what was cancelled since. */
    remove: (jobs: readonly SpooledJob[], state: 'sent' | 'cancelling') =>
      change(() => {
        for (const { acceptedUs } of jobs)
          run('DELETE FROM spooled WHERE acceptedUs = ? AND state = ?', acceptedUs, state);
      }),
    end: ({ acceptedUs }: SpooledJob, state: 'cancelled' | 'refused', error: JobError | null) =>
      change(() => {
        const values = [state, Math.round(clock.now()), JSON.stringify(error), acceptedUs];
        run('UPDATE spooled SET state = ?, endedAt = ?, error = ? WHERE acceptedUs = ?', ...values);
      }),
    /** Those that have not ended. */
    ofProduct: (productId: string) =>
      select('SELECT * FROM spooled WHERE productId = ? AND endedAt IS NULL ORDER BY acceptedUs', productId),
    /** Cancels what has not ended, one job or all of a product or its image; returns it with its new state. */
    cancel: (by: 'id' | 'productId', value: string, imageId: string | null = null) =>
      change(() =>
        select(
          `UPDATE spooled SET endedAt = iif(${ENDS_HERE}, ?, NULL),
             state = iif(${ENDS_HERE}, 'cancelled', 'cancelling')
           WHERE ${by} = ? AND job ->> '$.data.imageId' = coalesce(?, job ->> '$.data.imageId')
             AND endedAt IS NULL RETURNING *`,
          ...[Math.round(clock.now()), value, imageId],
        ),
      ),
    /** Removes everything; returns how many waited for the queue. */
    clear: () =>
      change(() => {
        const { open } = readTotals();
        run('DELETE FROM spooled');
        return open;
      }),
    close: () => database.close(),
  };
}

function createTables(database: DatabaseSync): void {
  const format = Number(database.prepare('PRAGMA user_version').get()?.['user_version']);
  if (format === FORMAT) return;
  // Before the format had a number, the table was called `spool`.
  database.exec('CREATE TABLE IF NOT EXISTS spool (id)');
  if (format > FORMAT || database.prepare('SELECT 1 FROM spool').get() !== undefined) {
    throw new VitrineError('queue_format', 'The spool was written by another version of Vitrine.');
  }
  database.exec(`DROP TABLE spool; ${SCHEMA}`);
}

type Row = Omit<SpooledJob, 'error' | 'job'> & { readonly error: string; readonly job: string };

const toSpooledJob = (row: Row): SpooledJob => ({
  ...row,
  error: JSON.parse(row.error) as JobError | null,
  job: JSON.parse(row.job) as NewJob,
});

/**
 * A lock between processes that ends with the process that holds it: an open transaction of a database of its own.
 * Null while another one holds it.
 */
export function tryLock(file: string): Disposable | null {
  const database = new DatabaseSync(file);
  try {
    database.exec('BEGIN EXCLUSIVE');
    return { [Symbol.dispose]: () => database.close() };
  } catch (error) {
    database.close();
    if (isBusy(error)) return null;
    throw error;
  }
}
