import type { DatabaseSync } from 'node:sqlite';
import { VitrineError } from '../../errors/vitrine-error.ts';
import { writeTransaction } from '../../sqlite/database.ts';
import type { JobStatus, Priority, Stage } from '../job.ts';

const FORMAT = 3;

/** What a waiting job waits for, other than a worker. */
export type WaitsFor = 'time' | 'host' | 'sibling';

/** Where a job is. It follows from its state alone: a generated column derives it. */
export type Place = Priority | 'suspects' | WaitsFor | Exclude<JobStatus, 'queued' | 'delayed'>;

/** A row of `jobs`. Instants in epoch milliseconds, flags 0 or 1. */
export interface JobRow {
  readonly id: string;
  readonly key: string;
  readonly productId: string;
  readonly imageId: string;
  status: JobStatus;
  waitsFor: WaitsFor | null;
  priority: Priority;
  version: number;
  sequence: number;
  /** Orders the jobs in line: the sequence of when it came to its place there. */
  turn: number;
  /** The sequence of when it came to its status. */
  since: number;
  /** The image's host. */
  host: string | null;
  attempts: number;
  maxAttempts: number;
  crashes: number;
  /** How often this data was claimed. */
  deliveries: number;
  readonly enqueuedAt: number;
  availableAt: number | null;
  startedAt: number | null;
  endedAt: number | null;
  leaseUntil: number | null;
  leasedMs: number;
  deferredAt: number | null;
  token: string | null;
  settledToken: string | null;
  workerId: string | null;
  stage: Stage | null;
  cancelRequested: number;
  processingMs: number | null;
  /** A JobError, a JobResult and AttemptRecords, as JSON. */
  error: string | null;
  result: string | null;
  history: string;
  /** Of the payload; `inlineBytes` is 0 when the image is elsewhere, or was dropped. */
  bytes: number;
  inlineBytes: number;
  /** Callbacks, as a JSON list, that the end of the job is reported to; null when there are none. */
  callbacks: string | null;
  /** A Delivery as JSON: this job reports the end of another, whose row is its payload. Null for an image. */
  readonly delivers: string | null;
}

/** The row of a job that waits and was never claimed, with these columns. */
export function toNewRow(
  job: Pick<
    JobRow,
    | 'id'
    | 'key'
    | 'productId'
    | 'imageId'
    | 'priority'
    | 'version'
    | 'sequence'
    | 'maxAttempts'
    | 'enqueuedAt'
  > &
    Partial<JobRow>,
): JobRow {
  return {
    ...{
      status: 'queued',
      waitsFor: null,
      turn: job.sequence,
      since: job.sequence,
      host: null,
      availableAt: null,
    },
    ...{
      attempts: 0,
      crashes: 0,
      deliveries: 0,
      leasedMs: 0,
      cancelRequested: 0,
      startedAt: null,
      endedAt: null,
    },
    ...{ leaseUntil: null, deferredAt: null, token: null, settledToken: null, workerId: null, stage: null },
    ...{ processingMs: null, error: null, result: null, history: '[]', bytes: 0, inlineBytes: 0 },
    ...{ callbacks: null, delivers: null },
    ...job,
  };
}

// Conditions that the partial indexes and the queries share, word by word.
export const IN_LINE = "place IN ('high', 'normal', 'low', 'suspects', 'sibling')";
export const LIVE = "status IN ('queued', 'delayed', 'processing')";
export const FORGETTABLE = "delivers IS NULL AND status IN ('queued', 'delayed', 'processing', 'failed')";

/** What came with the third format. */
const DELIVERIES = `
  CREATE INDEX jobsOfProduct ON jobs (productId) WHERE ${FORGETTABLE};
  CREATE INDEX jobsThatReport ON jobs (sequence) WHERE delivers IS NOT NULL;
`;
const FROM_SECOND_FORMAT = `
  ALTER TABLE jobs ADD COLUMN callbacks TEXT;
  ALTER TABLE jobs ADD COLUMN delivers TEXT;
  DROP INDEX jobsOfProduct;
  ${DELIVERIES}
  PRAGMA user_version = ${FORMAT};
`;

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
    settledToken TEXT, workerId TEXT, stage TEXT, cancelRequested INTEGER NOT NULL, processingMs INTEGER,
    error TEXT, result TEXT, history TEXT NOT NULL, bytes INTEGER NOT NULL, inlineBytes INTEGER NOT NULL,
    callbacks TEXT, delivers TEXT,
    place TEXT NOT NULL AS (CASE
      WHEN status NOT IN ('queued', 'delayed') THEN status
      WHEN waitsFor IS NOT NULL THEN waitsFor
      WHEN crashes > 0 THEN 'suspects'
      ELSE priority END) STORED,
    errorCode TEXT AS (error ->> '$.code')
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX jobsInLine ON jobs (place, turn, sequence) WHERE ${IN_LINE};
  CREATE INDEX jobsDelayed ON jobs (availableAt) WHERE place = 'time';
  CREATE INDEX jobsOfHost ON jobs (host, (crashes > 0), turn, sequence) WHERE place = 'host';
  CREATE INDEX jobsLeased ON jobs (leaseUntil) WHERE place = 'processing';
  CREATE INDEX jobsByStatus ON jobs (status, since);
  CREATE INDEX jobsDead ON jobs (errorCode, since) WHERE status = 'failed';
  CREATE INDEX jobsDeadInline ON jobs (since, inlineBytes) WHERE status = 'failed' AND inlineBytes > 0;
  ${DELIVERIES}
  CREATE INDEX jobsOfImage ON jobs (key) WHERE ${LIVE};
  CREATE UNIQUE INDEX oneDuePerImage ON jobs (key) WHERE ${IN_LINE} OR place = 'host';
  CREATE UNIQUE INDEX oneRunningPerImage ON jobs (key) WHERE place = 'processing';

  -- In a table of their own, so that a large inline image is not rewritten with each change of state.
  CREATE TABLE payloads (id TEXT PRIMARY KEY, data TEXT NOT NULL) STRICT;

  -- Enqueues whose data another job took over, or that were too old.
  CREATE TABLE absorbed (
    id TEXT PRIMARY KEY, target TEXT NOT NULL, version INTEGER NOT NULL, sequence INTEGER NOT NULL,
    replaced INTEGER NOT NULL, at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX absorbedByAge ON absorbed (at);

  -- How many jobs are in each place, since counting them takes time; and how many ever came there.
  CREATE TABLE counts (place TEXT PRIMARY KEY, n INTEGER NOT NULL, arrived INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  INSERT INTO counts SELECT value, 0, 0 FROM json_each('["high", "normal", "low", "suspects", "time", "host",
    "sibling", "processing", "completed", "failed", "cancelled"]');
  CREATE TRIGGER jobArrives AFTER INSERT ON jobs BEGIN
    UPDATE counts SET n = n + 1, arrived = arrived + 1 WHERE place = new.place;
  END;
  CREATE TRIGGER jobMoves AFTER UPDATE ON jobs WHEN old.place <> new.place BEGIN
    UPDATE counts SET n = n - 1 WHERE place = old.place;
    UPDATE counts SET n = n + 1, arrived = arrived + 1 WHERE place = new.place;
  END;
  CREATE TRIGGER jobLeaves AFTER DELETE ON jobs BEGIN
    UPDATE counts SET n = n - 1 WHERE place = old.place;
    DELETE FROM payloads WHERE id = old.id;
  END;

  CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  INSERT INTO meta SELECT value, 0 FROM json_each('["sequence", "claimed", "paused", "completed", "failed",
    "cancelled", "deadDropped", "lastReapAt", "reachableSince"]');

  -- Claims that got jobs: a repeated one gets the same.
  CREATE TABLE claims (id TEXT PRIMARY KEY, jobs TEXT NOT NULL, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  CREATE INDEX claimsByAge ON claims (at);
  -- Hosts that asked to slow down.
  CREATE TABLE hosts (
    host TEXT PRIMARY KEY, perSecond REAL NOT NULL, nextAt REAL NOT NULL, deferredAt INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE TABLE rates (second INTEGER PRIMARY KEY, completed INTEGER NOT NULL, ended INTEGER NOT NULL) STRICT;
  CREATE TABLE durations (slot INTEGER PRIMARY KEY, ms REAL NOT NULL) STRICT;
  CREATE TABLE remembered (key TEXT PRIMARY KEY, value TEXT NOT NULL, until INTEGER NOT NULL) STRICT;
  CREATE INDEX rememberedByAge ON remembered (until);
  -- The last claim or renewal of each worker, for the crash rule; and what workers report.
  CREATE TABLE heartbeats (workerId TEXT PRIMARY KEY, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  CREATE TABLE workers (id TEXT PRIMARY KEY, report TEXT NOT NULL, seenAt INTEGER NOT NULL) STRICT;
  PRAGMA user_version = ${FORMAT};
`;

export const FLUSH = `
  DELETE FROM jobs; DELETE FROM absorbed; DELETE FROM claims; DELETE FROM hosts; DELETE FROM rates;
  DELETE FROM durations; DELETE FROM remembered;
  UPDATE meta SET value = 0 WHERE name IN ('claimed', 'completed', 'failed', 'cancelled', 'deadDropped');
`;

/**
 * Creates the tables unless they are there; several processes may do it at once. Tables of the second format
 * are brought up to date; those of the first are replaced when nothing in them is worth keeping.
 * @throws VitrineError `queue_format` for a newer format, or the first one when it still has jobs
 */
export async function ensureSchema(database: DatabaseSync): Promise<void> {
  const readFormat = () => Number(database.prepare('PRAGMA user_version').get()?.['user_version']);
  if (readFormat() === FORMAT) return;
  await writeTransaction(database, () => {
    const format = readFormat();
    if (format === FORMAT) return;
    if (format > FORMAT) throw toFormatError(`format ${format}, this version of Vitrine knows ${FORMAT}`);
    if (format === 2) {
      database.exec(FROM_SECOND_FORMAT);
      return;
    }
    const sequence = format === 0 ? 0 : dropFirstFormat(database);
    database.exec(SCHEMA);
    database.prepare("UPDATE meta SET value = ? WHERE name = 'sequence'").run(sequence);
  });
}

/** @returns its last sequence */
function dropFirstFormat(database: DatabaseSync): number {
  const { jobs } = database
    .prepare("SELECT count(*) AS jobs FROM jobs WHERE place NOT IN ('c', 'x')")
    .get() as { jobs: number };
  if (jobs > 0) throw toFormatError(`format 1, and ${jobs} of its jobs are waiting, running or dead letters`);
  const { last } = database.prepare("SELECT value AS last FROM meta WHERE name = 'last'").get() as {
    last: number;
  };
  const tables = [
    'jobs',
    'payloads',
    'absorbed',
    'counts',
    'meta',
    'claims',
    'rates',
    'remembered',
    'workers',
  ];
  database.exec(tables.map((table) => `DROP TABLE ${table};`).join(' '));
  return last;
}

const toFormatError = (what: string) =>
  new VitrineError('queue_format', `The queue file has ${what}.`, {
    suggestion:
      'Drain the queue (and redrive or purge its dead letters) with the version that wrote it, or set DATA_DIR to another folder.',
  });
