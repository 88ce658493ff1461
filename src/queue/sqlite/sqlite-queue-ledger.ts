import type { DatabaseSync, SQLInputValue } from 'node:sqlite';
import { PRIORITIES } from '../job.ts';
import { PENDING_PLACES, type Place } from './sqlite-queue-schema.ts';

/** A row of `jobs`, to be changed and saved. 0, '' and −1 (of `processingMs`) stand for null. Instants in epoch ms. */
export interface JobRecord {
  readonly id: string;
  readonly key: string;
  readonly productId: string;
  readonly imageId: string;
  version: number;
  /** 1 high, 2 normal, 3 low. */
  priority: number;
  place: Place;
  /** Its turn among those of the same place: microseconds, unique while the clock goes on. */
  ord: number;
  attempts: number;
  maxAttempts: number;
  crashes: number;
  enqueuedAt: number;
  availableAt: number;
  firstClaimedAt: number;
  startedAt: number;
  endedAt: number;
  leaseUntil: number;
  token: string;
  settledToken: string;
  workerId: string;
  cancelRequested: number;
  processingMs: number;
  /** JSON. */
  error: string;
  errorCode: string;
  /** JSON. */
  result: string;
  /** JSON. */
  history: string;
}

/** An enqueue whose data another job took, or that was too old: `version` is of the other job then. */
export interface AbsorbedRecord {
  readonly target: string;
  readonly version: number;
  readonly replaced: number;
  readonly superseded: number;
}

export type Total = 'completed' | 'failed' | 'cancelled' | 'turn';
type Meta = Total | 'last' | 'paused';

const COLUMNS = [
  ...['id', 'key', 'productId', 'imageId', 'version', 'priority', 'place', 'ord', 'attempts', 'maxAttempts'],
  ...[
    'crashes',
    'enqueuedAt',
    'availableAt',
    'firstClaimedAt',
    'startedAt',
    'endedAt',
    'leaseUntil',
    'token',
  ],
  ...[
    'settledToken',
    'workerId',
    'cancelRequested',
    'processingMs',
    'error',
    'errorCode',
    'result',
    'history',
  ],
];
const FIXED_COLUMNS = 4;

/** Beyond this many jobs ahead a position is estimated: counting would take longer the longer the line is. */
const MAX_COUNTED = 500;

/** The rows of the queue. Whatever writes is called inside a transaction. */
export function createLedger(database: DatabaseSync) {
  const waitingPlaces = "place IN ('h', 'n', 'l', 's', 'p', 'd')";
  const sql = {
    find: database.prepare('SELECT * FROM jobs WHERE id = ?'),
    waiting: database.prepare(`SELECT * FROM jobs WHERE key = ? AND ${waitingPlaces}`),
    running: database.prepare("SELECT * FROM jobs WHERE key = ? AND place = 'r'"),
    insert: database.prepare(`INSERT INTO jobs (${COLUMNS}) VALUES (${COLUMNS.map((name) => `:${name}`)})`),
    save: database.prepare(
      `UPDATE jobs SET ${COLUMNS.slice(FIXED_COLUMNS).map((name) => `${name} = :${name}`)} WHERE id = :id`,
    ),
    absorbed: database.prepare('SELECT target, version, replaced, superseded FROM absorbed WHERE id = ?'),
    remove: database.prepare('DELETE FROM jobs WHERE id = ?'),
    payload: database.prepare('SELECT data FROM payloads WHERE id = ?'),
    setPayload: database.prepare('INSERT OR REPLACE INTO payloads VALUES (?, ?)'),
    dropPayload: database.prepare('DELETE FROM payloads WHERE id = ?'),
    counts: database.prepare('SELECT place, n FROM counts'),
    meta: database.prepare('SELECT value FROM meta WHERE name = ?'),
    setMeta: database.prepare('UPDATE meta SET value = ? WHERE name = ?'),
    addMeta: database.prepare('UPDATE meta SET value = value + ? WHERE name = ?'),
    ahead: database.prepare(
      'SELECT count(*) AS n FROM (SELECT 1 FROM jobs WHERE place = ? AND ord < ? ORDER BY ord DESC LIMIT ?)',
    ),
    // Two queries: SQLite looks at the end of an index only for a single min or max.
    ends: database.prepare(
      'SELECT (SELECT min(ord) FROM jobs WHERE place = ?1) AS first, (SELECT max(ord) FROM jobs WHERE place = ?1) AS last',
    ),
  };
  const find = (id: string) => sql.find.get(id) as JobRecord | undefined;
  const meta = (name: Meta) => (sql.meta.get(name) as { value: number }).value;

  function counts(): Record<Place, number> {
    const rows = sql.counts.all() as unknown as { place: Place; n: number }[];
    return Object.fromEntries(rows.map(({ place, n }) => [place, n])) as Record<Place, number>;
  }

  function ahead(place: Place, ord: number, inPlace: number): number {
    const { n } = sql.ahead.get(place, ord, MAX_COUNTED) as { n: number };
    if (n < MAX_COUNTED) return n;
    const { first, last } = sql.ends.get(place) as { first: number; last: number };
    return Math.max(n, Math.round(((ord - first) / Math.max(1, last - first)) * (inPlace - 1)));
  }

  return {
    find,
    absorbed: (id: string) => sql.absorbed.get(id) as AbsorbedRecord | undefined,
    counts,
    meta,
    waiting: (key: string) => sql.waiting.get(key) as JobRecord | undefined,
    running: (key: string) => sql.running.get(key) as JobRecord | undefined,
    insert: (job: JobRecord) => void sql.insert.run(toNamed(job, 0)),
    save: (job: JobRecord) => void sql.save.run({ id: job.id, ...toNamed(job, FIXED_COLUMNS) }),
    remove: (id: string) => void sql.remove.run(id),
    payload: (id: string) => (sql.payload.get(id) as { data: string } | undefined)?.data,
    setPayload: (id: string, data: string) => void sql.setPayload.run(id, data),
    dropPayload: (id: string) => void sql.dropPayload.run(id),
    setMeta: (name: 'last' | 'paused', value: number) => void sql.setMeta.run(value, name),
    add: (name: Total, by: number) => void sql.addMeta.run(by, name),

    pending(): number {
      const byPlace = counts();
      return PENDING_PLACES.reduce((sum, place) => sum + byPlace[place], 0);
    },

    /** Grows always: later than the last one, and than the clock's microseconds when that is possible. */
    nextOrder(): number {
      const order = Math.max(meta('last') + 1, Date.now() * 1_000);
      sql.setMeta.run(order, 'last');
      return order;
    },

    /** How many jobs are served before it, plus one; the turn of the oldest is left out. Null outside a line. */
    position(job: JobRecord, byPlace = counts()): number | null {
      return isInLine(job)
        ? toPosition(job.place, ahead(job.place, job.ord, byPlace[job.place]), byPlace)
        : null;
    },
  };
}

/** True for a job that may be claimed now. */
export const isInLine = ({ place }: JobRecord): boolean => 'hnls'.includes(place);

/** @param ahead jobs before it in its own line */
export function toPosition(place: Place, ahead: number, byPlace: Readonly<Record<Place, number>>): number {
  const higher = place === 'l' ? byPlace.h + byPlace.n : place === 'n' ? byPlace.h : 0;
  return higher + ahead + 1;
}

export type Ledger = ReturnType<typeof createLedger>;

function toNamed(job: JobRecord, from: number): Record<string, SQLInputValue> {
  const values = job as unknown as Record<string, SQLInputValue>;
  return Object.fromEntries(COLUMNS.slice(from).map((name) => [name, values[name] ?? null]));
}

/** Where a job waits that nothing else holds back. */
export function lineOf(job: JobRecord, now: number): Place {
  if (job.availableAt > now) return 'd';
  if (job.crashes > 0) return 's';
  return (['h', 'n', 'l'] as const)[job.priority - 1] ?? 'n';
}

export const toPriorityRank = (priority: (typeof PRIORITIES)[number]): number =>
  PRIORITIES.indexOf(priority) + 1;
