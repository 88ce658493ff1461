import type { DatabaseSync } from 'node:sqlite';
import type { CleanupReport } from '../port.ts';
import { type JobRecord, type Ledger, lineOf } from './sqlite-queue-ledger.ts';
import { setError, toJobError } from './sqlite-queue-transitions.ts';

/**
 * What the table's own constraints can't hold: each job that has not ended has its payload, a follow-up waits only
 * while a job of its key runs, payloads belong to a job, and the counts are right.
 */
export function auditQueue(
  database: DatabaseSync,
  ledger: Ledger,
  finish: (job: JobRecord, place: 'f', now: number) => void,
  now: number,
): Pick<CleanupReport, 'checked' | 'mended'> {
  const all = (query: string) => database.prepare(query).all() as unknown as JobRecord[];
  let mended = 0;

  const bare = all(
    "SELECT * FROM jobs WHERE place IN ('h', 'n', 'l', 's', 'p', 'd', 'r') AND id NOT IN (SELECT id FROM payloads)",
  );
  for (const job of bare) {
    setError(job, toJobError('internal_error', 'The payload of the job is gone.'));
    finish(job, 'f', now);
  }
  mended += bare.length;

  const misplaced = all(`
    SELECT * FROM jobs AS job WHERE place IN ('h', 'n', 'l', 's', 'p', 'd')
    AND (place = 'p') <> EXISTS (SELECT 1 FROM jobs WHERE key = job.key AND place = 'r')`);
  for (const job of misplaced) {
    job.place = job.place === 'p' ? lineOf(job, now) : 'p';
    ledger.save(job);
  }
  mended += misplaced.length;

  const orphans = database
    .prepare("DELETE FROM payloads WHERE id NOT IN (SELECT id FROM jobs WHERE place NOT IN ('c', 'x'))")
    .run();
  mended += Number(orphans.changes);

  const wrong = database
    .prepare(
      'UPDATE counts SET n = (SELECT count(*) FROM jobs WHERE place = counts.place) WHERE n <> (SELECT count(*) FROM jobs WHERE place = counts.place)',
    )
    .run();
  mended += Number(wrong.changes);

  const { checked } = database.prepare('SELECT count(*) AS checked FROM jobs').get() as { checked: number };
  return { checked, mended };
}
