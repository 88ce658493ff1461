import type { DatabaseSync } from 'node:sqlite';
import { AGED_TURN, type JobData } from '../job.ts';
import type { Claim, ClaimRequest } from '../port.ts';
import { type JobRecord, type Ledger, lineOf } from './sqlite-queue-ledger.ts';
import { setError, toJobError } from './sqlite-queue-transitions.ts';
import { toPriority } from './sqlite-queue-views.ts';

const MAX_PROMOTED = 1_000;

/** Claims and what goes before: delayed jobs whose time has come get in line. Runs in a transaction. */
export function createClaim(
  database: DatabaseSync,
  ledger: Ledger,
  finish: (job: JobRecord, place: 'f', now: number) => void,
) {
  const sql = {
    due: database.prepare(
      "SELECT * FROM jobs WHERE place = 'd' AND availableAt <= ? ORDER BY availableAt LIMIT ?",
    ),
    line: database.prepare('SELECT id, ord FROM jobs WHERE place = ? ORDER BY ord LIMIT ?'),
    isRepeated: database.prepare('SELECT 1 FROM claims WHERE id = ? AND until > ?'),
    keep: database.prepare('INSERT OR REPLACE INTO claims VALUES (?, ?)'),
    held: database.prepare("SELECT * FROM jobs WHERE token = ? AND place = 'r' ORDER BY ord"),
  };

  function promote(now: number): void {
    for (const job of sql.due.all(now, MAX_PROMOTED) as unknown as JobRecord[]) {
      job.ord = job.availableAt * 1_000;
      job.availableAt = 0;
      job.place = lineOf(job, now);
      ledger.save(job);
    }
  }

  /** By priority, but every so many turns the one that has waited longest, so that none starves. */
  function pick(max: number): string[] {
    const lines = (['h', 'n', 'l'] as const).map(
      (place) => sql.line.all(place, max) as unknown as { id: string; ord: number }[],
    );
    const picked: string[] = [];
    for (let turn = ledger.meta('turn') + 1; picked.length < max; turn += 1) {
      const heads = lines.filter((line) => line.length > 0);
      const [first] = heads;
      if (first === undefined) break;
      const from =
        turn % AGED_TURN === 0
          ? heads.reduce((oldest, line) => ((line[0]?.ord ?? 0) < (oldest[0]?.ord ?? 0) ? line : oldest))
          : first;
      picked.push(from.shift()?.id ?? '');
    }
    if (picked.length > 0) ledger.add('turn', picked.length);
    return picked;
  }

  function pickSuspect(): string[] {
    return (sql.line.all('s', 1) as unknown as { id: string }[]).map(({ id }) => id);
  }

  function lease(id: string, request: ClaimRequest, now: number): JobRecord[] {
    const job = ledger.find(id);
    if (job === undefined) return [];
    if (ledger.payload(id) === undefined) {
      setError(job, toJobError('internal_error', 'The payload of the job is gone.'));
      finish(job, 'f', now);
      return [];
    }
    const { claimId, workerId, leaseMs } = request;
    Object.assign(job, { place: 'r', token: claimId, workerId, startedAt: now, leaseUntil: now + leaseMs });
    job.attempts += 1;
    if (job.firstClaimedAt === 0) job.firstClaimedAt = now;
    ledger.save(job);
    return [job];
  }

  function claimJobs(request: ClaimRequest, now: number): JobRecord[] {
    const { claimId, leaseMs } = request;
    if (sql.isRepeated.get(claimId, now) !== undefined)
      return sql.held.all(claimId) as unknown as JobRecord[];
    promote(now);
    if (ledger.meta('paused') === 1) return [];
    const picked = request.suspect === true ? pickSuspect() : pick(request.max);
    if (picked.length > 0) sql.keep.run(claimId, now + leaseMs);
    return picked.flatMap((id) => lease(id, request, now));
  }

  function claim(request: ClaimRequest): Claim {
    const now = Date.now();
    const jobs = claimJobs(request, now).map((job) => ({
      id: job.id,
      token: job.token,
      key: job.key,
      data: JSON.parse(ledger.payload(job.id) ?? '') as JobData,
      version: job.version,
      priority: toPriority(job.priority),
      attempt: job.attempts,
      maxAttempts: job.maxAttempts,
      crashes: job.crashes,
      sinceFirstClaimMs: Math.max(0, now - job.firstClaimedAt),
    }));
    return { jobs, suspectsWaiting: ledger.counts().s };
  }

  return { claim, promote };
}
