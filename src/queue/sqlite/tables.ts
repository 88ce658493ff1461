import type { DatabaseSync, SQLInputValue } from 'node:sqlite';
import { VitrineError } from '../../errors/vitrine-error.ts';
import { createStatements, writeTransaction } from '../../sqlite/database.ts';
import type { Callback, JobStatus, Priority } from '../job.ts';
import type { JobView } from '../port.ts';

const FORMAT = 2;

/** What a waiting job waits for, other than a worker. */
export type WaitsFor = 'time' | 'host' | 'sibling';

/** Where a job is. It follows from its state alone: a generated column derives it. */
export type Place = Priority | 'suspects' | WaitsFor | Exclude<JobStatus, 'queued' | 'delayed'>;

type Mutable<T> = { -readonly [Name in keyof T]: T[Name] };

/** A row of `jobs`: what people see of a job, and what only the queue needs. Instants in epoch milliseconds. */
export interface Job extends Mutable<Omit<JobView, 'position' | 'etaMs' | 'version'>> {
  version: number;
  sequence: number;
  waitsFor: WaitsFor | null;
  /** As of when the row was read. */
  readonly place?: Place;
  /** Orders the jobs in line: the sequence of when it came to its place there. */
  turn: number;
  /** The sequence of when it came to its status. */
  since: number;
  /** The image's host. */
  host: string | null;
  /** How often this data was claimed. */
  deliveries: number;
  leaseUntil: number | null;
  leasedMs: number;
  deferredAt: number | null;
  token: string | null;
  settledToken: string | null;
  /** Of the payload; 0 when the image is elsewhere, or was dropped. */
  inlineBytes: number;
  /** Where its end is reported. */
  callbacks: readonly Callback[];
}

/** These columns hold JSON. */
const JSON_COLUMNS = ['cancelRequested', 'lastError', 'result', 'history', 'callbacks', 'delivery'] as const;

/** A host that asked to slow down. */
export interface Host {
  readonly host: string;
  readonly perSecond: number;
  /** The last rate that was too high; null before the host has asked a second time. */
  readonly ceiling: number | null;
  /** When its next job may be claimed. */
  readonly nextAt: number;
  /** When it asked first, or last had its rate lowered. */
  readonly deferredAt: number;
}

// Conditions that the partial indexes and the queries share, word by word.
export const IN_LINE = "place IN ('high', 'normal', 'low', 'suspects', 'sibling')";
export const ENDED = "status IN ('completed', 'cancelled')";
export const LIVE = "status IN ('queued', 'delayed', 'processing')";
export const IS_DELIVERY = "delivery <> 'null'";
export const FORGETTABLE = "delivery = 'null' AND status IN ('queued', 'delayed', 'processing', 'failed')";

const SCHEMA = `
  CREATE TABLE jobs (
    id TEXT PRIMARY KEY, key TEXT NOT NULL, productId TEXT NOT NULL, imageId TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('queued', 'delayed', 'processing', 'completed', 'failed', 'cancelled')),
    waitsFor TEXT CHECK (waitsFor IN ('time', 'host', 'sibling')),
    priority TEXT NOT NULL CHECK (priority IN ('high', 'normal', 'low')),
    version INTEGER NOT NULL, sequence INTEGER NOT NULL, turn INTEGER NOT NULL, since INTEGER NOT NULL,
    host TEXT, attempts INTEGER NOT NULL, maxAttempts INTEGER NOT NULL, crashes INTEGER NOT NULL,
    deliveries INTEGER NOT NULL, enqueuedAt INTEGER NOT NULL, availableAt INTEGER, startedAt INTEGER,
    endedAt INTEGER, leaseUntil INTEGER, leasedMs INTEGER NOT NULL, deferredAt INTEGER, token TEXT,
    settledToken TEXT, workerId TEXT, stage TEXT, processingMs INTEGER, inlineBytes INTEGER NOT NULL,
    cancelRequested TEXT NOT NULL, lastError TEXT NOT NULL, result TEXT NOT NULL, history TEXT NOT NULL,
    callbacks TEXT NOT NULL, delivery TEXT NOT NULL,
    place TEXT NOT NULL AS (CASE
      WHEN status NOT IN ('queued', 'delayed') THEN status
      WHEN waitsFor IS NOT NULL THEN waitsFor
      WHEN crashes > 0 THEN 'suspects'
      ELSE priority END) STORED,
    errorCode TEXT AS (lastError ->> '$.code')
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX jobsInLine ON jobs (place, turn, sequence) WHERE ${IN_LINE};
  CREATE INDEX jobsDelayed ON jobs (availableAt, sequence) WHERE place = 'time';
  CREATE INDEX jobsOfHost ON jobs (host, turn, sequence) WHERE place = 'host';
  CREATE INDEX jobsLeased ON jobs (leaseUntil) WHERE place = 'processing';
  CREATE INDEX jobsByStatus ON jobs (status, since);
  CREATE INDEX jobsEnded ON jobs (since) WHERE ${ENDED};
  CREATE INDEX jobsDead ON jobs (errorCode, since) WHERE status = 'failed';
  CREATE INDEX jobsDeadInline ON jobs (since, inlineBytes) WHERE status = 'failed' AND inlineBytes > 0;
  CREATE INDEX jobsOfProduct ON jobs (productId) WHERE ${FORGETTABLE};
  CREATE INDEX jobsThatReport ON jobs (sequence) WHERE ${IS_DELIVERY};
  CREATE INDEX jobsOfImage ON jobs (key) WHERE ${LIVE};
  CREATE UNIQUE INDEX oneDuePerImage ON jobs (key) WHERE ${IN_LINE} OR place = 'host';
  CREATE UNIQUE INDEX oneRunningPerImage ON jobs (key) WHERE place = 'processing';

  -- In a table of their own, so that a large inline image is not rewritten with each change of state.
  CREATE TABLE payloads (id TEXT PRIMARY KEY, data TEXT NOT NULL) STRICT;

  -- Enqueues whose data another job took over, or that were too old.
  CREATE TABLE absorbed (
    id TEXT PRIMARY KEY, answer TEXT NOT NULL, sequence INTEGER NOT NULL, at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX absorbedByAge ON absorbed (at);

  -- How many jobs are in each place, since counting them takes time; and how many ever came there, of deliveries only
  -- those that had not ended.
  CREATE TABLE counts (place TEXT PRIMARY KEY, n INTEGER NOT NULL, arrived INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  INSERT INTO counts SELECT value, 0, 0 FROM json_each('["high", "normal", "low", "suspects", "time", "host",
    "sibling", "processing", "completed", "failed", "cancelled"]');
  CREATE TRIGGER jobArrives AFTER INSERT ON jobs BEGIN
    UPDATE counts SET n = n + 1, arrived = arrived + 1 WHERE place = new.place;
  END;
  CREATE TRIGGER jobMoves AFTER UPDATE ON jobs WHEN old.place <> new.place BEGIN
    UPDATE counts SET n = n - 1 WHERE place = old.place;
    UPDATE counts SET n = n + 1, arrived = arrived + (new.delivery = 'null' OR new.endedAt IS NULL)
      WHERE place = new.place;
  END;
  CREATE TRIGGER jobLeaves AFTER DELETE ON jobs BEGIN
    UPDATE counts SET n = n - 1 WHERE place = old.place;
    DELETE FROM payloads WHERE id = old.id;
  END;

  CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  INSERT INTO meta SELECT value, 0 FROM json_each('["sequence", "turns", "paused", "deadDropped", "lastReapAt",
    "reachableSince"]');

  -- Claims that got jobs: a repeated one gets no others.
  CREATE TABLE claims (id TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  CREATE INDEX claimsByAge ON claims (at);
  CREATE TABLE hosts (
    host TEXT PRIMARY KEY, perSecond REAL NOT NULL, ceiling REAL, nextAt REAL NOT NULL, deferredAt INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  -- Those that ended lately, by the sequence of when they did.
  CREATE TABLE attempts (id INTEGER PRIMARY KEY, isCompleted INTEGER NOT NULL, ms INTEGER NOT NULL) STRICT;
  CREATE TABLE remembered (id TEXT PRIMARY KEY, value TEXT NOT NULL, until INTEGER NOT NULL) STRICT;
  CREATE INDEX rememberedByAge ON remembered (until);
  -- The last claim or renewal of each worker, for the crash rule; and what workers report.
  CREATE TABLE heartbeats (id TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TABLE workers (id TEXT PRIMARY KEY, report TEXT NOT NULL, at INTEGER NOT NULL) STRICT;
  PRAGMA user_version = ${FORMAT};
`;

/**
 * Creates the tables unless they are there; several processes may do it at once. Tables of the first format are
 * replaced when nothing in them is worth keeping.
 * @throws VitrineError `queue_format` for a newer format, or an older one that still has jobs
 */
export async function ensureSchema(database: DatabaseSync): Promise<void> {
  const read = (sql: string) => Number(Object.values(database.prepare(sql).get() ?? {})[0]);
  if (read('PRAGMA user_version') === FORMAT) return;
  await writeTransaction(database, () => {
    const format = read('PRAGMA user_version');
    if (format === FORMAT) return;
    if (format > FORMAT) throw toFormatError(`format ${format}, this version of Vitrine knows ${FORMAT}`);
    let sequence = 0;
    if (format === 1) {
      const jobs = read("SELECT count(*) FROM jobs WHERE place NOT IN ('c', 'x')");
      if (jobs > 0)
        throw toFormatError(`format 1, and ${jobs} of its jobs are waiting, running or dead letters`);
      sequence = read("SELECT value FROM meta WHERE name = 'last'");
      const tables = database.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").all();
      for (const { name } of tables) database.exec(`DROP TABLE ${name}`);
    }
    database.exec(SCHEMA);
    database.prepare("UPDATE meta SET value = ? WHERE name = 'sequence'").run(sequence);
  });
}

const toFormatError = (what: string) =>
  new VitrineError('queue_format', `The queue file has ${what}.`, {
    suggestion:
      'Drain the queue (and redrive or purge its dead letters) with the version that wrote it, or set DATA_DIR to another folder.',
  });

type Meta = 'sequence' | 'turns' | 'paused' | 'deadDropped' | 'lastReapAt' | 'reachableSince';
type Values = readonly SQLInputValue[] | [Record<string, SQLInputValue>];

/** Reads and writes rows. Everything is called inside a transaction. */
export function createTables(database: DatabaseSync) {
  const { all, get, run } = createStatements(database);
  const columns = all<{ name: string }>("SELECT name FROM pragma_table_info('jobs')").map(({ name }) => name);
  const saveJob = `INSERT INTO jobs (${columns}) VALUES (${columns.map((name) => `:${name}`)})
    ON CONFLICT (id) DO UPDATE SET ${columns.map((name) => `${name} = :${name}`)}`;
  let now = 0;

  const jobs = (sql: string, ...values: Values) =>
    all<Record<string, unknown>>(sql, ...values).map((row) => {
      for (const name of JSON_COLUMNS) row[name] = JSON.parse(String(row[name]));
      return { ...row } as unknown as Job;
    });

  /** The only column of the first row. */
  const value = <T>(sql: string, ...values: Values): T | undefined =>
    Object.values(get<Record<string, T>>(sql, ...values) ?? {})[0];

  const meta = (name: Meta) => value<number>('SELECT value FROM meta WHERE name = ?', name) ?? 0;
  const setMeta = (name: Meta, to: number) => void run('UPDATE meta SET value = ? WHERE name = ?', to, name);

  return {
    ...{ all, get, run, jobs, value, meta, setMeta },
    /** Runs a transaction's work: for `now`, all of it happens at the same instant. */
    atOneInstant<T>(work: () => T): T {
      now = Date.now();
      return work();
    },
    now: () => now,
    /** Grows with each call: the clock's microseconds, or one more than the last. */
    nextSequence(): number {
      const sequence = Math.max(meta('sequence') + 1, now * 1_000);
      setMeta('sequence', sequence);
      return sequence;
    },

    find: (id: string | undefined) => jobs('SELECT * FROM jobs WHERE id = ?', id ?? null)[0],
    save(job: Job): void {
      const json = JSON_COLUMNS.map((name) => [name, JSON.stringify(job[name])]);
      run(saveJob, { ...job, ...Object.fromEntries(json) });
    },
    /** The other jobs of its image that have not ended, the newest first. */
    siblings: ({ id, key }: { readonly id: string; readonly key: string }) =>
      jobs(
        `SELECT * FROM jobs WHERE key = ? AND id <> ? AND ${LIVE} ORDER BY version DESC, sequence DESC`,
        key,
        id,
      ),
    payload: (id: string) => value<string>('SELECT data FROM payloads WHERE id = ?', id),
    findHost: (host: string | null) => get<Host>('SELECT * FROM hosts WHERE host = ?', host),
    dueHosts: () => all<Host>('SELECT * FROM hosts WHERE nextAt <= ? ORDER BY nextAt', now),
    firstOfHost: (host: string) =>
      jobs("SELECT * FROM jobs WHERE place = 'host' AND host = ? ORDER BY turn, sequence LIMIT 1", host)[0],

    /** When the next delayed job or the next job of a slowed host is due; null when there is none. */
    nextDueMs(): number | null {
      const at = value<number | null>(
        `SELECT min(at) FROM (
           SELECT min(availableAt) AS at FROM jobs WHERE place = 'time' UNION ALL SELECT min(nextAt) FROM hosts
           WHERE EXISTS (SELECT 1 FROM jobs WHERE place = 'host' AND host = hosts.host))`,
      );
      return typeof at === 'number' ? Math.max(0, Math.ceil(at - now)) : null;
    },

    counts(column: 'n' | 'arrived' = 'n'): Readonly<Record<Place, number>> {
      const rows = all<{ place: Place; n: number }>(`SELECT place, ${column} AS n FROM counts`);
      return Object.fromEntries(rows.map(({ place, n }) => [place, n])) as Record<Place, number>;
    },

    /** Deletes rows that a condition selects, so many at most; returns how many. */
    drop: (table: string, condition: string, limit: number, ...values: SQLInputValue[]) =>
      limit <= 0
        ? 0
        : run(
            `DELETE FROM ${table} WHERE id IN (SELECT id FROM ${table} WHERE ${condition} LIMIT ?)`,
            ...values,
            limit,
          ),
  };
}

export type Tables = ReturnType<typeof createTables>;

/** When a job is due; 0: now. */
export const toDue = ({ availableAt }: Pick<Job, 'availableAt'>, now: number): number =>
  availableAt !== null && availableAt > now ? availableAt : 0;
