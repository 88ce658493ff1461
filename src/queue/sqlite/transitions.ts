import { v7 as uuidv7 } from 'uuid';
import { ENDED_STATUSES, type JobError, type JobStatus, MAX_CRASHES, MAX_HISTORY } from '../job.ts';
import type { AttemptRecord, Delivery, Settlement } from '../port.ts';
import { DELIVERY_RETRY } from '../retry-policy.ts';
import { DURATIONS_KEPT, HOST_PACE, higherOf, isNewer, RATE_WINDOW_S, toJobError } from '../shared.ts';
import { type Jobs, parseJson, toCallbacks, toDue } from './jobs.ts';
import { type JobRow, toNewRow } from './schema.ts';

const MAX_PROMOTED = 500;

export interface Host {
  readonly host: string;
  perSecond: number;
  /** When its next job may be claimed. */
  nextAt: number;
  deferredAt: number;
}

/** How jobs pass from one state to another. Each runs inside a transaction, at one instant `now`. */
export function createTransitions(jobs: Jobs) {
  const findHost = (host: string | null) =>
    host === null ? undefined : jobs.get<Host>('SELECT * FROM hosts WHERE host = ?', host);
  const saveHost = (host: Host) =>
    void jobs.run('INSERT OR REPLACE INTO hosts VALUES (:host, :perSecond, :nextAt, :deferredAt)', {
      ...host,
    });

  function setStatus(job: JobRow, status: JobStatus): void {
    if (job.status !== status) job.since = jobs.nextSequence();
    job.status = status;
  }

  /** Decides where a waiting job belongs. The caller saves it. */
  function place(job: JobRow, running: JobRow | undefined, now: number): void {
    if (toDue(job, now) > 0) job.waitsFor = 'time';
    else {
      job.availableAt = null;
      job.waitsFor = running !== undefined ? 'sibling' : findHost(job.host) !== undefined ? 'host' : null;
    }
    setStatus(job, job.waitsFor === 'time' || job.waitsFor === 'host' ? 'delayed' : 'queued');
  }

  /** Ends a job: one that waits or runs, or a dead letter, whose failure was reported before. */
  function finish(job: JobRow, status: Delivery['end'], now: number): void {
    const wasEnded = ENDED_STATUSES.includes(job.status);
    setStatus(job, status);
    Object.assign(job, { waitsFor: null, availableAt: null, token: null, endedAt: now });
    if (status !== 'failed') {
      jobs.dropPayload(job.id);
      job.inlineBytes = 0;
    }
    if (job.delivers === null) jobs.add(status, 1);
    jobs.save(job);
    if (!wasEnded) reportEnd(job, status, now);
  }

  /**
   * Adds a delivery to each address that wants to hear of the end of a job. Nothing stands between an end and its
   * delivery: both are in the same transaction.
   */
  function reportEnd(job: JobRow, end: Delivery['end'], now: number): void {
    for (const { url, host } of toCallbacks(job)) {
      const delivers: Delivery = { jobId: job.id, url, end };
      const { productId, imageId } = job;
      const [id, sequence, payload] = [uuidv7(), jobs.nextSequence(), JSON.stringify(job)];
      const delivery = toNewRow({
        ...{ id, key: id, productId, imageId, host, sequence, version: sequence, enqueuedAt: now },
        ...{ priority: 'high', maxAttempts: DELIVERY_RETRY.attempts },
        ...{ delivers: JSON.stringify(delivers), bytes: Buffer.byteLength(payload) },
      });
      place(delivery, undefined, now);
      jobs.insert(delivery);
      jobs.setPayload(id, payload);
    }
  }

  /**
   * A job comes to wait, again or when its time has come. It ends when a newer job of its image is due no later;
   * older ones that are due no sooner end, and it takes over what they stood for.
   * @returns false when it ended
   */
  function wait(job: JobRow, now: number): boolean {
    const due = toDue(job, now);
    const siblings = jobs.siblings(job.key);
    const running = siblings.running?.id === job.id ? undefined : siblings.running;
    const waiting = siblings.waiting.filter(({ id }) => id !== job.id);
    if (waiting.some((other) => isNewer(other, job) && toDue(other, now) <= due)) {
      finish(job, 'cancelled', now);
      return false;
    }
    for (const older of waiting.filter((other) => isNewer(job, other) && toDue(other, now) >= due)) {
      job.crashes = Math.max(job.crashes, older.crashes);
      job.priority = higherOf(job.priority, older.priority);
      if (older.waitsFor !== 'time') job.turn = Math.min(job.turn, older.turn);
      finish(older, 'cancelled', now);
    }
    place(job, running, now);
    jobs.save(job);
    return true;
  }

  /** The running job of the image has left: its follow-up may be claimed. */
  function releaseFollowUp(key: string, now: number): void {
    const followUp = jobs.siblings(key).waiting.find(({ waitsFor }) => waitsFor === 'sibling');
    if (followUp === undefined) return;
    place(followUp, undefined, now);
    jobs.save(followUp);
  }

  function end(job: JobRow, status: Delivery['end'], now: number): void {
    finish(job, status, now);
    releaseFollowUp(job.key, now);
  }

  /** A running job waits again, unless it was cancelled or a newer one makes it needless; returns whether it waits. */
  function requeue(job: JobRow, now: number): boolean {
    job.token = null;
    if (job.cancelRequested === 1) {
      end(job, 'cancelled', now);
      return false;
    }
    const waits = wait(job, now);
    releaseFollowUp(job.key, now);
    return waits;
  }

  function fail(job: JobRow, error: JobError, now: number): void {
    record(job, 'failed', now, error);
    end(job, job.cancelRequested === 1 ? 'cancelled' : 'failed', now);
  }

  /** Ends the lease and notes the attempt. */
  function record(job: JobRow, outcome: AttemptRecord['outcome'], now: number, error?: JobError): void {
    const startedAt = job.startedAt ?? now;
    const history = parseJson<AttemptRecord[]>(job.history) ?? [];
    const attempt = { startedAt, endedAt: now, workerId: job.workerId ?? '', outcome };
    history.push(error === undefined ? attempt : { ...attempt, error });
    job.history = JSON.stringify(history.slice(-MAX_HISTORY));
    job.leasedMs += Math.max(0, Math.min(now, job.leaseUntil ?? now) - startedAt);
    if (error !== undefined) job.error = JSON.stringify(error);
    Object.assign(job, { leaseUntil: null, stage: null });
  }

  function countAttempt(completed: boolean, processingMs: number, now: number): void {
    const second = Math.floor(now / 1_000);
    jobs.run(
      `INSERT INTO rates VALUES (:second, :completed, 1)
       ON CONFLICT DO UPDATE SET completed = completed + :completed, ended = ended + 1`,
      { second, completed: completed ? 1 : 0 },
    );
    jobs.run('DELETE FROM rates WHERE second <= ?', second - RATE_WINDOW_S);
    const slot = jobs.meta('completed') % DURATIONS_KEPT;
    if (completed) jobs.run('INSERT OR REPLACE INTO durations VALUES (?, ?)', slot, processingMs);
  }

  /** Of several deferrals of jobs that ran at the same time, the first makes the host slower. */
  function slowDown(host: string, startedAt: number, delayMs: number, now: number): void {
    const known = findHost(host);
    const perSecond =
      known === undefined
        ? HOST_PACE.startPerSecond
        : startedAt < known.deferredAt
          ? known.perSecond
          : Math.max(HOST_PACE.minPerSecond, known.perSecond * HOST_PACE.decreaseFactor);
    saveHost({ host, perSecond, nextAt: Math.max(known?.nextAt ?? 0, now + delayMs), deferredAt: now });
  }

  function speedUp(host: string | null): void {
    const known = findHost(host);
    if (known === undefined) return;
    known.perSecond += HOST_PACE.increasePerJob;
    saveHost(known);
  }

  /** @returns false when the token is stale; true again for a repeated call */
  function settle(settlement: Settlement, now: number): boolean {
    const job = jobs.find(settlement.id);
    if (job === undefined) return false;
    if (job.status !== 'processing' || job.token !== settlement.token)
      return job.settledToken === settlement.token;
    job.settledToken = settlement.token;
    if ('processingMs' in settlement) {
      job.processingMs = Math.round(settlement.processingMs);
      // Rates and times are those of images.
      if (job.delivers === null) countAttempt(settlement.kind === 'complete', settlement.processingMs, now);
      speedUp(job.host);
    }
    switch (settlement.kind) {
      case 'complete':
        Object.assign(job, { error: null, result: JSON.stringify(settlement.result) });
        record(job, 'completed', now);
        end(job, 'completed', now);
        break;
      case 'fail':
        fail(job, settlement.error, now);
        break;
      case 'retry':
        if (job.attempts >= job.maxAttempts) {
          fail(job, settlement.error, now);
          break;
        }
        record(job, 'retried', now, settlement.error);
        job.availableAt = now + Math.ceil(settlement.delayMs);
        job.turn = jobs.nextSequence();
        requeue(job, now);
        break;
      case 'release':
        record(job, 'released', now);
        job.attempts -= 1;
        requeue(job, now);
        break;
      case 'defer':
        record(job, 'deferred', now, settlement.error);
        job.attempts -= 1;
        job.deferredAt ??= now;
        if (job.host === null) job.availableAt = now + Math.ceil(settlement.delayMs);
        else slowDown(job.host, job.startedAt ?? now, settlement.delayMs, now);
        requeue(job, now);
        break;
      case 'cancel':
        record(job, 'cancelled', now);
        end(job, 'cancelled', now);
        break;
    }
    return true;
  }

  /** The lease ran out. A crash stays counted for the image: by the jobs that come after when this one doesn't wait. */
  function expire(job: JobRow, isCrash: boolean, now: number): 'recovered' | 'poisoned' | 'ended' {
    record(job, isCrash ? 'crashed' : 'released', now);
    job.attempts -= 1;
    if (!isCrash) return requeue(job, now) ? 'recovered' : 'ended';
    job.crashes += 1;
    const isPoison = job.crashes >= MAX_CRASHES && job.cancelRequested === 0;
    if (isPoison) {
      job.error = JSON.stringify(toJobError('job_poison', `The job ended ${MAX_CRASHES} workers.`));
      end(job, 'failed', now);
    } else if (requeue(job, now)) return 'recovered';
    for (const other of jobs.siblings(job.key).waiting) {
      other.crashes = Math.max(other.crashes, job.crashes);
      jobs.save(other);
    }
    return isPoison ? 'poisoned' : 'ended';
  }

  return {
    findHost,
    saveHost,
    place,
    finish,
    settle,
    expire,
    setStatus,

    /** Delayed jobs whose time has come get in line. */
    promote(now: number): void {
      const due = jobs.all<JobRow>(
        `SELECT * FROM jobs WHERE place = 'time' AND availableAt <= ?
         ORDER BY availableAt, sequence LIMIT ${MAX_PROMOTED}`,
        now,
      );
      for (const { id } of due) {
        // One before it may have ended it.
        const job = jobs.find(id);
        if (job?.waitsFor !== 'time' || job.availableAt === null) continue;
        job.turn = job.availableAt * 1_000;
        wait(job, now);
      }
    },

    /** It waits for a host that asked to slow down. */
    park(job: JobRow): void {
      job.waitsFor = 'host';
      setStatus(job, 'delayed');
      jobs.save(job);
    },

    failUnreadable(job: JobRow, now: number): void {
      job.error = JSON.stringify(toJobError('job_unreadable', 'The stored data of the job is damaged.'));
      finish(job, 'failed', now);
    },

    cancel(job: JobRow, now: number): 'cancelled' | 'requested' | 'ended' {
      if (job.status === 'cancelled') return 'cancelled';
      if (job.status === 'completed' || job.status === 'failed') return 'ended';
      if (job.status === 'processing') {
        job.cancelRequested = 1;
        jobs.save(job);
        return 'requested';
      }
      finish(job, 'cancelled', now);
      return 'cancelled';
    },

    /** A dead letter waits again, with its old version: newer jobs of its image win. */
    redrive(job: JobRow, now: number): boolean {
      if (jobs.payload(job.id) === undefined) return false;
      const { running } = jobs.siblings(job.key);
      if (running?.cancelRequested === 0 && isNewer(running, job)) {
        finish(job, 'cancelled', now);
        return false;
      }
      Object.assign(job, { attempts: 0, crashes: 0, cancelRequested: 0, leasedMs: 0 });
      Object.assign(job, { deferredAt: null, endedAt: null, turn: jobs.nextSequence() });
      return wait(job, now);
    },
  };
}

export type Transitions = ReturnType<typeof createTransitions>;
