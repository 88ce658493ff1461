import type { DatabaseSync, SQLInputValue } from 'node:sqlite';
import type { JobStatus, Priority } from '../job.ts';
import { higherThan } from '../shared.ts';
import { IN_LINE, type JobRow, LIVE, type Place, STORED_COLUMNS } from './schema.ts';

/** Beyond this many jobs in front, a position is not counted. */
export const MAX_COUNTED = 10_000;

export type Counts = Readonly<Record<Place, number>>;

type Total = 'completed' | 'failed' | 'cancelled' | 'deadDropped' | 'claimed';
type Meta = Total | 'sequence' | 'paused' | 'lastReapAt' | 'reachableSince';

/** The rows of jobs, their payloads and the counters. What writes is called inside a transaction. */
export function createJobs(database: DatabaseSync) {
  const fixed = ['id', 'key', 'productId', 'imageId', 'enqueuedAt'];
  const sql = {
    find: database.prepare('SELECT * FROM jobs WHERE id = ?'),
    live: database.prepare(`SELECT * FROM jobs WHERE key = ? AND ${LIVE}`),
    insert: database.prepare(
      `INSERT INTO jobs (${STORED_COLUMNS}) VALUES (${STORED_COLUMNS.map((name) => `:${name}`)})`,
    ),
    save: database.prepare(
      `UPDATE jobs SET ${STORED_COLUMNS.filter((name) => !fixed.includes(name)).map((name) => `${name} = :${name}`)}
       WHERE id = :id`,
    ),
    remove: database.prepare('DELETE FROM jobs WHERE id = ?'),
    payload: database.prepare('SELECT data FROM payloads WHERE id = ?'),
    setPayload: database.prepare('INSERT OR REPLACE INTO payloads VALUES (?, ?)'),
    dropPayload: database.prepare('DELETE FROM payloads WHERE id = ?'),
    counts: database.prepare('SELECT place, n FROM counts'),
    meta: database.prepare('SELECT value FROM meta WHERE name = ?'),
    setMeta: database.prepare('UPDATE meta SET value = ? WHERE name = ?'),
    ahead: database.prepare(
      `SELECT count(*) AS n FROM (SELECT 1 FROM jobs
       WHERE ${IN_LINE} AND place = ? AND (turn, sequence) < (?, ?) LIMIT ${MAX_COUNTED + 1})`,
    ),
  };
  sql.insert.setAllowUnknownNamedParameters(true);
  sql.save.setAllowUnknownNamedParameters(true);
  const named = (job: JobRow) => job as unknown as Record<string, SQLInputValue>;
  const meta = (name: Meta) => (sql.meta.get(name) as { value: number }).value;

  /** Grows with each call: the clock's microseconds, or one more than the last. */
  function nextSequence(): number {
    const sequence = Math.max(meta('sequence') + 1, Date.now() * 1_000);
    sql.setMeta.run(sequence, 'sequence');
    return sequence;
  }

  function counts(): Counts {
    const rows = sql.counts.all() as unknown as { place: Place; n: number }[];
    return Object.fromEntries(rows.map(({ place, n }) => [place, n])) as Record<Place, number>;
  }

  return {
    nextSequence,
    counts,
    meta,
    setMeta: (name: Exclude<Meta, 'sequence'>, value: number) => void sql.setMeta.run(value, name),
    add: (name: Total, by: number) => void sql.setMeta.run(meta(name) + by, name),
    find: (id: string) => sql.find.get(id) as unknown as JobRow | undefined,
    /** The jobs of an image that have not ended. */
    live: (key: string) => sql.live.all(key) as unknown as JobRow[],
    insert: (job: JobRow) => void sql.insert.run(named(job)),
    save: (job: JobRow) => void sql.save.run(named(job)),
    remove: (id: string) => void sql.remove.run(id),
    payload: (id: string) => (sql.payload.get(id) as { data: string } | undefined)?.data,
    setPayload: (id: string, data: string) => void sql.setPayload.run(id, data),
    dropPayload: (id: string) => void sql.dropPayload.run(id),

    /** Null outside a line, and behind too many to count. */
    position(job: JobRow, byPlace = counts()): number | null {
      const place = toLine(job);
      if (place === null) return null;
      const { n } = sql.ahead.get(place, job.turn, job.sequence) as { n: number };
      return n > MAX_COUNTED ? null : toPosition(place, n, byPlace);
    },
  };
}

export type Jobs = ReturnType<typeof createJobs>;

/** The line in which a job waits to be claimed; null when it is in none. */
export function toLine(job: JobRow): Priority | 'suspects' | null {
  if (job.status !== 'queued' || job.waitsFor !== null) return null;
  return job.crashes > 0 ? 'suspects' : job.priority;
}

/** @param ahead jobs before it in its own line */
export function toPosition(line: Priority | 'suspects', ahead: number, byPlace: Counts): number {
  const higher = line === 'suspects' ? [] : higherThan(line);
  return higher.reduce((sum, place) => sum + byPlace[place], ahead + 1);
}

export const countPending = (byPlace: Counts): number =>
  byPlace.high +
  byPlace.normal +
  byPlace.low +
  byPlace.suspects +
  byPlace.sibling +
  byPlace.processing +
  countDelayed(byPlace);

export const countDelayed = (byPlace: Counts): number => byPlace.time + byPlace.host;

/** When a job is due; 0: now. */
export const toDue = (job: JobRow, now: number): number =>
  job.availableAt !== null && job.availableAt > now ? job.availableAt : 0;

/** As a reader sees it: a delayed job whose time has come is queued, though only a claim moves it. */
export const toStatus = (job: JobRow, now: number): JobStatus =>
  job.waitsFor === 'time' && toDue(job, now) === 0 ? 'queued' : job.status;
