import type { DatabaseSync } from 'node:sqlite';
import { inTransaction } from '../../sqlite/database.ts';

/**
 * Where a job is: h, n, l wait by priority; s waits to be run alone (it has crashed a worker); p waits for the
 * running job of its key to end; d waits for its time; r runs; c completed; f is a dead letter; x is cancelled.
 */
export type Place = 'h' | 'n' | 'l' | 's' | 'p' | 'd' | 'r' | 'c' | 'f' | 'x';

export const WAITING_PLACES: readonly Place[] = ['h', 'n', 'l', 's', 'p', 'd'];
export const PENDING_PLACES: readonly Place[] = [...WAITING_PLACES, 'r'];

const SCHEMA_VERSION = 1;

/** A job is one row with one place, so it can't be in two; the unique indexes hold one waiting and one running a key. */
const SCHEMA = `
  CREATE TABLE jobs (
    id TEXT PRIMARY KEY, key TEXT NOT NULL, productId TEXT NOT NULL, imageId TEXT NOT NULL,
    version INTEGER NOT NULL, priority INTEGER NOT NULL, place TEXT NOT NULL, ord INTEGER NOT NULL,
    attempts INTEGER NOT NULL, maxAttempts INTEGER NOT NULL, crashes INTEGER NOT NULL,
    enqueuedAt INTEGER NOT NULL, availableAt INTEGER NOT NULL, firstClaimedAt INTEGER NOT NULL,
    startedAt INTEGER NOT NULL, endedAt INTEGER NOT NULL, leaseUntil INTEGER NOT NULL,
    token TEXT NOT NULL, settledToken TEXT NOT NULL, workerId TEXT NOT NULL,
    cancelRequested INTEGER NOT NULL, processingMs INTEGER NOT NULL,
    error TEXT NOT NULL, errorCode TEXT NOT NULL, result TEXT NOT NULL, history TEXT NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX jobsInLine ON jobs (place, ord);
  CREATE INDEX jobsDelayed ON jobs (availableAt) WHERE place = 'd';
  CREATE INDEX jobsLeased ON jobs (leaseUntil) WHERE place = 'r';
  CREATE INDEX jobsClaimed ON jobs (token) WHERE place = 'r';
  CREATE INDEX jobsEnded ON jobs (endedAt) WHERE place IN ('c', 'x');
  CREATE INDEX jobsDead ON jobs (errorCode, ord) WHERE place = 'f';
  CREATE INDEX jobsOfProduct ON jobs (productId) WHERE place IN ('h', 'n', 'l', 's', 'p', 'd', 'r');
  CREATE UNIQUE INDEX oneWaiting ON jobs (key) WHERE place IN ('h', 'n', 'l', 's', 'p', 'd');
  CREATE UNIQUE INDEX oneRunning ON jobs (key) WHERE place = 'r';

  -- Apart from the job, so that a large inline image is not rewritten with each change of state.
  CREATE TABLE payloads (id TEXT PRIMARY KEY, data TEXT NOT NULL) STRICT;

  -- Ids of enqueues that another job absorbed: a repeated one gets the first answer.
  CREATE TABLE absorbed (
    id TEXT PRIMARY KEY, target TEXT NOT NULL, version INTEGER NOT NULL,
    replaced INTEGER NOT NULL, superseded INTEGER NOT NULL, at INTEGER NOT NULL
  ) STRICT, WITHOUT ROWID;
  CREATE INDEX absorbedByAge ON absorbed (at);

  -- Jobs a place: counting rows would take longer with each job that waits.
  CREATE TABLE counts (place TEXT PRIMARY KEY, n INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  INSERT INTO counts VALUES ('h',0),('n',0),('l',0),('s',0),('p',0),('d',0),('r',0),('c',0),('f',0),('x',0);
  CREATE TRIGGER jobArrives AFTER INSERT ON jobs BEGIN
    UPDATE counts SET n = n + 1 WHERE place = new.place;
  END;
  CREATE TRIGGER jobLeaves AFTER DELETE ON jobs BEGIN
    UPDATE counts SET n = n - 1 WHERE place = old.place;
  END;
  CREATE TRIGGER jobMoves AFTER UPDATE OF place ON jobs WHEN old.place <> new.place BEGIN
    UPDATE counts SET n = n - 1 WHERE place = old.place;
    UPDATE counts SET n = n + 1 WHERE place = new.place;
  END;

  -- last: the greatest order given; turn: jobs claimed; paused; totals of ended jobs.
  CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  INSERT INTO meta VALUES ('last', 0), ('turn', 0), ('paused', 0), ('completed', 0), ('failed', 0), ('cancelled', 0);

  -- Claims that were given jobs, for as long as their first leases: a repeated one gets no others.
  CREATE TABLE claims (id TEXT PRIMARY KEY, until INTEGER NOT NULL) STRICT, WITHOUT ROWID;
  CREATE INDEX claimsByAge ON claims (until);

  CREATE TABLE rates (second INTEGER PRIMARY KEY, completed INTEGER NOT NULL, ended INTEGER NOT NULL) STRICT;
  CREATE TABLE remembered (key TEXT PRIMARY KEY, answer TEXT NOT NULL, until INTEGER NOT NULL) STRICT;
  CREATE INDEX rememberedByAge ON remembered (until);
  CREATE TABLE workers (id TEXT PRIMARY KEY, report TEXT NOT NULL, seenAt INTEGER NOT NULL, until INTEGER NOT NULL) STRICT;
  PRAGMA user_version = ${SCHEMA_VERSION};
`;

/** Makes the tables unless they are there; several processes may do it at once. */
export function ensureQueueSchema(database: DatabaseSync): void {
  inTransaction(database, () => {
    const row = database.prepare('PRAGMA user_version').get() as { user_version: number };
    if (row.user_version === 0) database.exec(SCHEMA);
  });
}
