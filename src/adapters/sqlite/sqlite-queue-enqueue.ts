import type { DatabaseSync } from 'node:sqlite';
import { VitrineError } from '../../domain/errors.ts';
import type { EnqueuedJob, NewJob } from '../../ports/job-queue.ts';
import {
  isInLine,
  type JobRecord,
  type Ledger,
  lineOf,
  toPosition,
  toPriorityRank,
} from './sqlite-queue-ledger.ts';
import { toStatus } from './sqlite-queue-views.ts';

type Answer = Pick<EnqueuedJob, 'id' | 'replaced' | 'superseded' | 'version'>;
/** `fresh`: it is at the end of its line, where this call put it. */
type Added = Answer & { readonly fresh?: true };

/** Stores new jobs; see the port for what happens to those whose key has a job already. Runs in a transaction. */
export function createEnqueue(database: DatabaseSync, ledger: Ledger, maxPending: number) {
  const sql = {
    absorbed: database.prepare('SELECT * FROM absorbed WHERE id = ?'),
    absorb: database.prepare('INSERT INTO absorbed VALUES (?, ?, ?, ?, ?, ?)'),
  };

  function firstAnswer(id: string): Answer | undefined {
    const job = ledger.find(id);
    if (job !== undefined) return { id, replaced: false, superseded: false, version: job.version };
    const row = sql.absorbed.get(id) as
      | { target: string; version: number; replaced: number; superseded: number }
      | undefined;
    if (row === undefined) return undefined;
    const { target, version, replaced, superseded } = row;
    return { id: target, replaced: replaced === 1, superseded: superseded === 1, version };
  }

  function absorb(id: string, target: JobRecord, kind: 'replaced' | 'superseded', now: number): Answer {
    const [replaced, superseded] = [kind === 'replaced', kind === 'superseded'];
    sql.absorb.run(id, target.id, target.version, Number(replaced), Number(superseded), now);
    return { id: target.id, replaced, superseded, version: target.version };
  }

  /** The jobs of the key that the new one meets. A running one that is being cancelled supersedes nothing. */
  function meet(job: NewJob) {
    const waiting = ledger.waiting(job.key);
    const running = ledger.running(job.key);
    const live = running?.cancelRequested === 0 ? running : undefined;
    const { version } = job;
    const newer =
      version === null ? undefined : [waiting, live].find((other) => other && version < other.version);
    return { waiting, running, newer };
  }

  function add(job: NewJob, now: number): Added {
    const known = firstAnswer(job.id);
    if (known !== undefined) return known;
    const { waiting, running, newer } = meet(job);
    if (newer !== undefined) return absorb(job.id, newer, 'superseded', now);

    const order = ledger.nextOrder();
    const version = job.version ?? Math.max(order, (waiting?.version ?? 0) + 1, (running?.version ?? 0) + 1);
    const record = waiting ?? toNewRecord(job, order, now);
    record.version = version;
    record.maxAttempts = job.maxAttempts;
    record.availableAt = toAvailableAt(job.notBefore, now);
    if (waiting !== undefined) {
      record.priority = Math.min(record.priority, toPriorityRank(job.priority));
      Object.assign(record, { attempts: 0, error: '', errorCode: '', firstClaimedAt: 0 });
      if (record.place === 'd') record.ord = order;
    }
    record.place = running === undefined ? lineOf(record, now) : 'p';
    ledger.setPayload(record.id, JSON.stringify(job.data));
    if (waiting === undefined) {
      ledger.insert(record);
      return { id: job.id, replaced: false, superseded: false, version, fresh: true };
    }
    ledger.save(record);
    return absorb(job.id, record, 'replaced', now);
  }

  function countNew(jobs: readonly NewJob[]): number {
    const fresh = new Set<string>();
    for (const job of jobs) {
      if (fresh.has(job.key) || firstAnswer(job.id) !== undefined) continue;
      const { waiting, newer } = meet(job);
      if (waiting === undefined && newer === undefined) fresh.add(job.key);
    }
    return fresh.size;
  }

  function enqueue(jobs: readonly NewJob[]): readonly EnqueuedJob[] | VitrineError {
    const now = Date.now();
    if (maxPending > 0) {
      const added = countNew(jobs);
      if (added > 0 && ledger.pending() + added > maxPending) {
        return new VitrineError('queue_full', 'The queue holds as many jobs as it may.', {
          retryAfterMs: 10_000,
        });
      }
    }
    return locate(
      jobs.map((job) => add(job, now)),
      now,
    );
  }

  /** Where the jobs are now. Those that this call put at the end of a line are counted from the end: it may be long. */
  function locate(answers: readonly Added[], now: number): EnqueuedJob[] {
    const byPlace = ledger.counts();
    const behind = { ...byPlace };
    return answers
      .toReversed()
      .map(({ fresh, ...answer }): EnqueuedJob => {
        const job = ledger.find(answer.id);
        if (job === undefined) return { ...answer, status: 'completed', position: null };
        const status = toStatus(job, now);
        if (!fresh || !isInLine(job)) return { ...answer, status, position: ledger.position(job, byPlace) };
        behind[job.place] -= 1;
        return { ...answer, status, position: toPosition(job.place, behind[job.place], byPlace) };
      })
      .reverse();
  }

  return enqueue;
}

function toAvailableAt(notBefore: NewJob['notBefore'], now: number): number {
  if (notBefore === undefined) return 0;
  const at = 'delayMs' in notBefore ? now + Math.ceil(notBefore.delayMs) : Math.ceil(notBefore.atMs);
  return at > now ? at : 0;
}

function toNewRecord(job: NewJob, order: number, now: number): JobRecord {
  return {
    id: job.id,
    key: job.key,
    productId: job.data.productId,
    imageId: job.data.imageId,
    version: 0,
    priority: toPriorityRank(job.priority),
    place: 'h',
    ord: order,
    attempts: 0,
    maxAttempts: job.maxAttempts,
    crashes: 0,
    enqueuedAt: now,
    availableAt: 0,
    firstClaimedAt: 0,
    startedAt: 0,
    endedAt: 0,
    leaseUntil: 0,
    token: '',
    settledToken: '',
    workerId: '',
    cancelRequested: 0,
    processingMs: -1,
    error: '',
    errorCode: '',
    result: '',
    history: '[]',
  };
}
