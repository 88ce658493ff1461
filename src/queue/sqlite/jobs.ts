import type { DatabaseSync, SQLInputValue } from 'node:sqlite';
import { createStatements } from '../../sqlite/database.ts';
import type { Callback, JobStatus, Priority } from '../job.ts';
import { higherThan } from '../shared.ts';
import { IN_LINE, type JobRow, LIVE, type Place } from './schema.ts';

/** Beyond this many jobs in front, a position is not counted. */
const MAX_COUNTED = 10_000;

export type Line = Priority | 'suspects';
export type Counts = Readonly<Record<Place, number>>;

type Total = 'completed' | 'failed' | 'cancelled' | 'deadDropped' | 'claimed';
type Meta = Total | 'sequence' | 'paused' | 'lastReapAt' | 'reachableSince';

/** The rows of jobs, their payloads and the counters. What writes is called inside a transaction. */
export function createJobs(database: DatabaseSync) {
  const statements = createStatements(database);
  const { get, all, run } = statements;
  const columns = all<{ name: string }>("SELECT name FROM pragma_table_info('jobs')").map(({ name }) => name);
  const insertJob = `INSERT INTO jobs (${columns}) VALUES (${columns.map((name) => `:${name}`)})`;
  const updateJob = `UPDATE jobs SET ${columns.filter((name) => name !== 'id').map((name) => `${name} = :${name}`)} WHERE id = :id`;
  const named = (job: JobRow) => ({ ...job }) as Record<string, SQLInputValue>;

  const meta = (name: Meta) =>
    get<{ value: number }>('SELECT value FROM meta WHERE name = ?', name)?.value ?? 0;
  const setMeta = (name: Meta, value: number) =>
    void run('UPDATE meta SET value = ? WHERE name = ?', value, name);

  function counts(): Counts {
    const rows = all<{ place: Place; n: number }>('SELECT place, n FROM counts');
    return Object.fromEntries(rows.map(({ place, n }) => [place, n])) as Record<Place, number>;
  }

  return {
    ...statements,
    meta,
    setMeta,
    counts,
    add: (name: Total, by: number) => setMeta(name, meta(name) + by),
    /** Grows with each call: the clock's microseconds, or one more than the last. */
    nextSequence(): number {
      const sequence = Math.max(meta('sequence') + 1, Date.now() * 1_000);
      setMeta('sequence', sequence);
      return sequence;
    },

    find: (id: string) => get<JobRow>('SELECT * FROM jobs WHERE id = ?', id),
    insert: (job: JobRow) => void run(insertJob, named(job)),
    save: (job: JobRow) => void run(updateJob, named(job)),
    remove: (id: string) => void run('DELETE FROM jobs WHERE id = ?', id),
    payload: (id: string) => get<{ data: string }>('SELECT data FROM payloads WHERE id = ?', id)?.data,
    setPayload: (id: string, data: string) =>
      void run('INSERT OR REPLACE INTO payloads VALUES (?, ?)', id, data),
    dropPayload: (id: string) => void run('DELETE FROM payloads WHERE id = ?', id),

    /** The first in line. */
    head: (line: Line) =>
      get<JobRow>(`SELECT * FROM jobs WHERE ${IN_LINE} AND place = ? ORDER BY turn, sequence LIMIT 1`, line),

    /** The jobs of an image that have not ended. */
    siblings(key: string): { running: JobRow | undefined; waiting: JobRow[] } {
      const live = all<JobRow>(`SELECT * FROM jobs WHERE key = ? AND ${LIVE}`, key);
      const running = live.find(({ status }) => status === 'processing');
      return { running, waiting: live.filter((job) => job !== running) };
    },

    /** Null outside a line, and behind too many to count. */
    position(job: JobRow, byPlace = counts()): number | null {
      const line = toLine(job);
      if (line === null) return null;
      const ahead = get<{ n: number }>(
        `SELECT count(*) AS n FROM (SELECT 1 FROM jobs
         WHERE ${IN_LINE} AND place = ? AND (turn, sequence) < (?, ?) LIMIT ${MAX_COUNTED + 1})`,
        ...[line, job.turn, job.sequence],
      );
      return ahead === undefined || ahead.n > MAX_COUNTED ? null : toPosition(line, ahead.n, byPlace);
    },
  };
}

export type Jobs = ReturnType<typeof createJobs>;

/** The line in which a job waits to be claimed; null when it is in none. */
export function toLine(job: JobRow): Line | null {
  if (job.status !== 'queued' || job.waitsFor !== null) return null;
  return job.crashes > 0 ? 'suspects' : job.priority;
}

/** @param ahead jobs before it in its own line */
export function toPosition(line: Line, ahead: number, byPlace: Counts): number {
  const higher = line === 'suspects' ? [] : higherThan(line);
  return higher.reduce((sum, place) => sum + byPlace[place], ahead + 1);
}

export const countQueued = ({ high, normal, low, suspects, sibling }: Counts): number =>
  high + normal + low + suspects + sibling;
export const countDelayed = ({ time, host }: Counts): number => time + host;

/** When a job is due; 0: now. */
export const toDue = (job: JobRow, now: number): number =>
  job.availableAt !== null && job.availableAt > now ? job.availableAt : 0;

/** As a reader sees it: a delayed job whose time has come is queued, though only a claim moves it. */
export const toStatus = (job: JobRow, now: number): JobStatus =>
  job.waitsFor === 'time' && toDue(job, now) === 0 ? 'queued' : job.status;

export const toCallbacks = ({ callbacks }: JobRow): readonly Callback[] =>
  parseJson<Callback[]>(callbacks) ?? [];

/** Undefined when there is none, or it is damaged. */
export function parseJson<T>(json: string | null | undefined): T | undefined {
  try {
    return json === null || json === undefined ? undefined : (JSON.parse(json) as T);
  } catch {
    return undefined;
  }
}
