import { existsSync } from 'node:fs';
import type { DatabaseSync } from 'node:sqlite';
import { inTransaction, openDatabase } from '../../sqlite/database.ts';
import { ENDED_TTL_MS } from '../job.ts';
import type { NewJob } from '../port.ts';

/** A job that was accepted while the queue was away. Instants are epoch ms of this machine's clock. */
export interface SpooledJob {
  /** Grows in the order of acceptance. */
  readonly sequence: number;
  readonly spooledAt: number;
  /** True when the queue may have it already: it was sent there, and the answer was lost. */
  readonly isSent: boolean;
  readonly cancelledAt: number | null;
  readonly job: NewJob;
}

/**
 * Jobs in a file, in their order, durable once `add` has returned. The file is made with the first job. A cancelled
 * one that was never sent waits for nothing: it is only remembered, for as long as an ended job is. Each method
 * throws what SQLite throws.
 */
export interface Spool {
  /** How many the queue must still be told of. */
  count(): number;
  /** All or none. A job that is already there stays as it is. */
  add(jobs: readonly NewJob[], nowMs: number, isSent: boolean): void;
  /** Those that the queue must still be told of. */
  first(limit: number): readonly SpooledJob[];
  find(id: string): SpooledJob | null;
  /** Durable before they are sent. */
  markSent(ids: readonly string[]): void;
  /** The job as it is then; null when it isn't there. */
  cancel(id: string, nowMs: number): SpooledJob | null;
  /** The queue never had the cancelled job: from now on it is only remembered. */
  settle(id: string): void;
  remove(ids: readonly string[]): void;
  /** Removes all; gives how many there were to tell the queue of. */
  clear(): number;
  close(): void;
}

interface Row {
  readonly sequence: number;
  readonly spooled_at: number;
  readonly is_sent: number;
  readonly cancelled_at: number | null;
  readonly job: string;
}

const SCHEMA = `CREATE TABLE IF NOT EXISTS spool (
  sequence INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, spooled_at INTEGER NOT NULL,
  is_sent INTEGER NOT NULL, cancelled_at INTEGER, job TEXT NOT NULL
) STRICT`;

const UNTOLD = '(cancelled_at IS NULL OR is_sent = 1)';

const toSpooledJob = (row: Row): SpooledJob => ({
  sequence: row.sequence,
  spooledAt: row.spooled_at,
  isSent: row.is_sent === 1,
  cancelledAt: row.cancelled_at,
  job: JSON.parse(row.job) as NewJob,
});

export function createSpool(file: string): Spool {
  let database: DatabaseSync | undefined;
  const open = () => {
    if (database !== undefined) return database;
    database = openDatabase(file);
    database.exec(SCHEMA);
    return database;
  };
  /** Most processes never spool: they shall not leave an empty file behind. */
  const openExisting = () => (database !== undefined || existsSync(file) ? open() : undefined);

  function find(id: string): SpooledJob | null {
    const row = openExisting()?.prepare('SELECT * FROM spool WHERE id = ?').get(id) as unknown as
      | Row
      | undefined;
    return row === undefined ? null : toSpooledJob(row);
  }

  function runForEach(sql: string, ids: readonly string[]): void {
    const opened = openExisting();
    if (opened === undefined) return;
    const statement = opened.prepare(sql);
    inTransaction(opened, () => {
      for (const id of ids) statement.run(id);
    });
  }

  function count(): number {
    const row = openExisting()?.prepare(`SELECT count(*) AS count FROM spool WHERE ${UNTOLD}`).get();
    return Number(row?.['count'] ?? 0);
  }

  return {
    count,
    add(jobs, nowMs, isSent) {
      const opened = open();
      const insert = opened.prepare(
        'INSERT OR IGNORE INTO spool (id, spooled_at, is_sent, job) VALUES (?, ?, ?, ?)',
      );
      const forget = opened.prepare('DELETE FROM spool WHERE cancelled_at < ? AND is_sent = 0');
      inTransaction(opened, () => {
        forget.run(nowMs - ENDED_TTL_MS);
        for (const job of jobs) insert.run(job.id, nowMs, isSent ? 1 : 0, JSON.stringify(job));
      });
    },
    first(limit) {
      const rows = openExisting()
        ?.prepare(`SELECT * FROM spool WHERE ${UNTOLD} ORDER BY sequence LIMIT ?`)
        .all(limit) as unknown as readonly Row[] | undefined;
      return (rows ?? []).map(toSpooledJob);
    },
    find,
    markSent: (ids) => runForEach('UPDATE spool SET is_sent = 1 WHERE id = ?', ids),
    cancel(id, nowMs) {
      openExisting()
        ?.prepare('UPDATE spool SET cancelled_at = ? WHERE id = ? AND cancelled_at IS NULL')
        .run(nowMs, id);
      return find(id);
    },
    settle: (id) => runForEach('UPDATE spool SET is_sent = 0 WHERE id = ?', [id]),
    remove: (ids) => runForEach('DELETE FROM spool WHERE id = ?', ids),
    clear() {
      const waiting = count();
      openExisting()?.exec('DELETE FROM spool');
      return waiting;
    },
    close() {
      database?.close();
      database = undefined;
    },
  };
}
