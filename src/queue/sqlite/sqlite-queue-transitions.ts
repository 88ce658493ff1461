import { ERRORS, type ErrorCode } from '../../errors/error-table.ts';
import { type JobError, MAX_CRASHES, MAX_HISTORY } from '../job.ts';
import type { AttemptRecord, Settlement } from '../port.ts';
import { type JobRecord, type Ledger, lineOf } from './sqlite-queue-ledger.ts';

/** How jobs pass from one place to another. Each runs inside a transaction, at one instant `now`. */
export function createTransitions(ledger: Ledger) {
  /** Ends a job that waits or runs. */
  function finish(job: JobRecord, place: 'c' | 'f' | 'x', now: number): void {
    Object.assign(job, { place, endedAt: now, token: '', availableAt: 0 });
    if (place === 'f') job.ord = ledger.nextOrder();
    else ledger.dropPayload(job.id);
    ledger.add(place === 'c' ? 'completed' : place === 'f' ? 'failed' : 'cancelled', 1);
    ledger.save(job);
  }

  /** The running job of the key has left: its follow-up may be claimed. */
  function releaseFollower(key: string, now: number): JobRecord | undefined {
    const follower = ledger.waiting(key);
    if (follower === undefined) return undefined;
    follower.place = lineOf(follower, now);
    ledger.save(follower);
    return follower;
  }

  /** A running job goes back to wait, unless it was cancelled or a newer one waits for it to go. */
  function requeue(job: JobRecord, now: number): JobRecord | undefined {
    job.token = '';
    const follower = releaseFollower(job.key, now);
    if (job.cancelRequested === 1 || follower !== undefined) {
      finish(job, 'x', now);
      return follower;
    }
    job.place = lineOf(job, now);
    ledger.save(job);
    return undefined;
  }

  function end(job: JobRecord, place: 'c' | 'f' | 'x', now: number): void {
    finish(job, place, now);
    releaseFollower(job.key, now);
  }

  function fail(job: JobRecord, error: JobError, now: number): void {
    setError(job, error);
    record(job, 'failed', now, error);
    end(job, job.cancelRequested === 1 ? 'x' : 'f', now);
  }

  return {
    finish,

    /** @returns false when the token is stale; true again for a repeated call */
    settle(settlement: Settlement, now: number): boolean {
      const job = ledger.find(settlement.id);
      if (job === undefined) return false;
      if (job.place !== 'r' || job.token !== settlement.token) return job.settledToken === settlement.token;
      job.settledToken = settlement.token;
      if ('processingMs' in settlement) job.processingMs = Math.round(settlement.processingMs);
      switch (settlement.kind) {
        case 'complete':
          setError(job, null);
          job.result = JSON.stringify(settlement.result);
          record(job, 'completed', now);
          end(job, 'c', now);
          break;
        case 'fail':
          fail(job, settlement.error, now);
          break;
        case 'retry':
          if (job.attempts >= job.maxAttempts) {
            fail(job, settlement.error, now);
            break;
          }
          setError(job, settlement.error);
          record(job, 'retried', now, settlement.error);
          job.availableAt = settlement.delayMs > 0 ? now + Math.ceil(settlement.delayMs) : 0;
          // A delayed job gets its turn when its time comes.
          job.ord = ledger.nextOrder();
          requeue(job, now);
          break;
        case 'release':
          record(job, 'released', now);
          job.attempts -= 1;
          if (job.attempts === 0 && job.crashes === 0) job.firstClaimedAt = 0;
          job.availableAt = 0;
          requeue(job, now);
          break;
        case 'cancel':
          record(job, 'cancelled', now);
          end(job, 'x', now);
          break;
      }
      return true;
    },

    /** The lease ran out: the worker is taken for crashed. */
    crash(job: JobRecord, now: number): 'recovered' | 'poisoned' | 'ended' {
      record(job, 'crashed', now);
      job.attempts -= 1;
      job.crashes += 1;
      if (job.cancelRequested === 0 && job.crashes >= MAX_CRASHES) {
        setError(job, toJobError('job_poison', `The job ended ${MAX_CRASHES} workers.`));
        end(job, 'f', now);
        return 'poisoned';
      }
      job.availableAt = 0;
      const follower = requeue(job, now);
      if (job.cancelRequested === 1) return 'ended';
      if (follower === undefined) return 'recovered';
      // What crashed may be the same image: the follow-up inherits the suspicion.
      follower.crashes = Math.max(follower.crashes, job.crashes);
      follower.place = lineOf(follower, now);
      ledger.save(follower);
      return 'ended';
    },

    cancel(job: JobRecord, now: number): 'cancelled' | 'requested' | 'ended' {
      if (job.place === 'x') return 'cancelled';
      if (job.place === 'c' || job.place === 'f') return 'ended';
      if (job.place === 'r') {
        job.cancelRequested = 1;
        ledger.save(job);
        return 'requested';
      }
      finish(job, 'x', now);
      return 'cancelled';
    },

    /** A dead letter comes back as if it were enqueued with its old version: newer jobs of its key win. */
    redrive(job: JobRecord, now: number): boolean {
      const waiting = ledger.waiting(job.key);
      const running = ledger.running(job.key);
      const live = running?.cancelRequested === 0 ? running : undefined;
      if ((waiting?.version ?? -1) >= job.version || (live?.version ?? -1) >= job.version) {
        finish(job, 'x', now);
        return false;
      }
      if (waiting !== undefined) finish(waiting, 'x', now);
      Object.assign(job, {
        attempts: 0,
        crashes: 0,
        cancelRequested: 0,
        firstClaimedAt: 0,
        endedAt: 0,
        availableAt: 0,
      });
      job.ord = ledger.nextOrder();
      job.place = running === undefined ? lineOf(job, now) : 'p';
      ledger.save(job);
      return true;
    },
  };
}

export function toJobError(code: ErrorCode, message: string): JobError {
  return { code, message, suggestion: ERRORS[code].suggestion };
}

export function setError(job: JobRecord, error: JobError | null): void {
  job.error = error === null ? '' : JSON.stringify(error);
  job.errorCode = error?.code ?? '';
}

function record(job: JobRecord, outcome: AttemptRecord['outcome'], now: number, error?: JobError): void {
  const history = JSON.parse(job.history) as AttemptRecord[];
  const attempt = { startedAt: job.startedAt, endedAt: now, workerId: job.workerId, outcome };
  history.push(error === undefined ? attempt : { ...attempt, error });
  job.history = JSON.stringify(history.slice(-MAX_HISTORY));
}
