import type { DatabaseSync } from 'node:sqlite';
import { VitrineError } from '../../errors/vitrine-error.ts';
import type { EnqueuedJob, NewJob } from '../port.ts';
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

/** Stores new jobs; see the port for what happens to those whose key has a job already. Runs in a transaction. */
export function createEnqueue(database: DatabaseSync, ledger: Ledger, maxPending: number) {
  const sql = {
    absorb: database.prepare('INSERT INTO absorbed VALUES (?, ?, ?, ?, ?, ?)'),
  };

  function firstAnswer(id: string): Answer | undefined {
    const job = ledger.find(id);
    if (job !== undefined) return { id, replaced: false, superseded: false, version: job.version };
    const row = ledger.absorbed(id);
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

  function add(job: NewJob, now: number): Answer {
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
      return { id: job.id, replaced: false, superseded: false, version };
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
    const lastBefore = ledger.meta('last');
    return locate(
      jobs.map((job) => add(job, now)),
      lastBefore,
      now,
    );
  }

  /** Where the jobs are now. Those that this call put at the end of a line are counted from its end: it may be long. */
  function locate(answers: readonly Answer[], lastBefore: number, now: number): EnqueuedJob[] {
    const byPlace = ledger.counts();
    const jobs = new Map(answers.map(({ id }) => [id, ledger.find(id)]));
    const atEnd = [...jobs.values()].flatMap((job) =>
      job && job.ord > lastBefore && isInLine(job) ? [job] : [],
    );
    const positions = new Map<string, number>();
    const ahead = { ...byPlace };
    for (const job of atEnd.sort((a, b) => b.ord - a.ord)) {
      ahead[job.place] -= 1;
      positions.set(job.id, toPosition(job.place, ahead[job.place], byPlace));
    }
    return answers.map((answer): EnqueuedJob => {
      const job = jobs.get(answer.id);
      // Only a purged dead letter is gone before those that it absorbed.
      if (job === undefined) return { ...answer, status: 'failed', position: null };
      const position = positions.get(job.id) ?? ledger.position(job, byPlace);
      return { ...answer, status: toStatus(job, now), position };
    });
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
