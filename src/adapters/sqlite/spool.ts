import { existsSync } from 'node:fs';
import type { DatabaseSync } from 'node:sqlite';
import type { NewJob } from '../../ports/job-queue.ts';
import { inTransaction, openDatabase } from './database.ts';

/** A job that was accepted while the queue was away. */
export interface SpooledJob {
  /** Grows in the order of acceptance. */
  readonly sequence: number;
  /** Epoch ms of this machine's clock. */
  readonly spooledAt: number;
  readonly job: NewJob;
}

/**
 * Jobs in a file, in their order, durable once `add` has returned. The file is made with the first job. Each
 * method throws what SQLite throws.
 */
export interface Spool {
  count(): number;
  /** All or none. A job that is already there stays as it is. */
  add(jobs: readonly NewJob[], nowMs: number): void;
  first(limit: number): readonly SpooledJob[];
  find(id: string): SpooledJob | null;
  /** True when it was there. */
  remove(ids: readonly string[]): boolean;
  /** Removes all; gives how many there were. */
  clear(): number;
  close(): void;
}

interface Row {
  readonly sequence: number;
  readonly spooled_at: number;
  readonly job: string;
}

const toSpooledJob = (row: Row): SpooledJob => ({
  sequence: row.sequence,
  spooledAt: row.spooled_at,
  job: JSON.parse(row.job) as NewJob,
});

export function createSpool(file: string): Spool {
  let database: DatabaseSync | undefined;
  const open = () => {
    if (database !== undefined) return database;
    database = openDatabase(file);
    database.exec(
      `CREATE TABLE IF NOT EXISTS spool (
         sequence INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, spooled_at INTEGER NOT NULL, job TEXT NOT NULL
       ) STRICT`,
    );
    return database;
  };
  /** Most processes never spool: they shall not leave an empty file behind. */
  const openExisting = () => (database !== undefined || existsSync(file) ? open() : undefined);

  return {
    count() {
      const row = openExisting()?.prepare('SELECT count(*) AS count FROM spool').get();
      return Number(row?.['count'] ?? 0);
    },
    add(jobs, nowMs) {
      const opened = open();
      const insert = opened.prepare('INSERT OR IGNORE INTO spool (id, spooled_at, job) VALUES (?, ?, ?)');
      inTransaction(opened, () => {
        for (const job of jobs) insert.run(job.id, nowMs, JSON.stringify(job));
      });
    },
    first(limit) {
      const rows = openExisting()
        ?.prepare('SELECT sequence, spooled_at, job FROM spool ORDER BY sequence LIMIT ?')
        .all(limit) as unknown as readonly Row[] | undefined;
      return (rows ?? []).map(toSpooledJob);
    },
    find(id) {
      const row = openExisting()
        ?.prepare('SELECT sequence, spooled_at, job FROM spool WHERE id = ?')
        .get(id) as unknown as Row | undefined;
      return row === undefined ? null : toSpooledJob(row);
    },
    remove(ids) {
      const opened = openExisting();
      if (opened === undefined) return false;
      const statement = opened.prepare('DELETE FROM spool WHERE id = ?');
      return inTransaction(opened, () => ids.map((id) => statement.run(id).changes > 0).some(Boolean));
    },
    clear: () => Number(openExisting()?.prepare('DELETE FROM spool').run().changes ?? 0),
    close() {
      database?.close();
      database = undefined;
    },
  };
}
