import { randomUUIDv7 } from 'node:crypto';
import { toImageHost } from '../../catalog/product-image.ts';
import {
  AGED_TURN,
  type DeliveryJobData,
  ENDED_STATUSES,
  type JobData,
  type JobError,
  MAX_CRASHES,
  MAX_HISTORY,
  mergeCallbacks,
  PRIORITIES,
  toCallback,
} from '../job.ts';
import type {
  AttemptRecord,
  Claim,
  ClaimedJob,
  ClaimRequest,
  Delivery,
  EnqueuedJob,
  Lease,
  NewJob,
} from '../port.ts';
import {
  CLAIM_MAX_BYTES,
  type ForgottenProduct,
  type Renewal,
  type Settled,
  type Settlement,
} from '../port.ts';
import { DELIVERY_RETRY } from '../retry-policy.ts';
import { HOST_PACE, higherOf, isNewer, toFasterPerSecond, toJobError, toSlowerPace } from '../shared.ts';
import { FORGETTABLE, IN_LINE, type Job, LIVE, type Tables, toDue } from './tables.ts';
import { toView } from './views.ts';

/** Delayed jobs that one transaction puts in line, and jobs of slowed hosts that it takes out. */
const MAX_MOVED = 200;

export type Answer = Pick<EnqueuedJob, 'id' | 'replaced' | 'superseded' | 'version'>;

/** What becomes of a job from its enqueue to its end. Each function runs inside a write transaction. */
export function createLifecycle(tables: Tables, leaseMs: number) {
  const { find, findHost, get, jobs, meta, now, nextSequence, payload, run, save, setMeta, siblings } =
    tables;

  // Enqueue -----------------------------------------------------------------------------------------------------------

  /** @returns undefined when there is no room for it */
  function enqueue(newJob: NewJob, hasRoom: () => boolean): Answer | undefined {
    const known = firstAnswer(newJob.id);
    if (known !== undefined) return known;
    const others = siblings(newJob);
    const sequence = nextSequence() - Math.round((newJob.ageMs ?? 0) * 1_000);
    const version = newJob.version ?? Math.max(sequence, ...others.map((other) => other.version));
    const job = toJob(newJob, version, sequence, now());
    if (newJob.cancelled) {
      finish(job, 'cancelled');
      return { id: job.id, replaced: false, superseded: false, version };
    }
    const newest = others.find((other) => isInsteadOf(other, job));
    if (newest !== undefined) {
      const callbacks = mergeCallbacks(newest.callbacks, job.callbacks);
      if (job.callbacks.length > 0) save({ ...newest, callbacks });
      return absorb(newJob.id, newest, false);
    }

    const [carrier] = others
      .filter((other) => other.status !== 'processing' && isInsteadOf(job, other))
      .sort((a, b) => toDue(a, now()) - toDue(b, now()) || a.turn - b.turn);
    if (carrier !== undefined) {
      const { id, enqueuedAt, status, since, history, startedAt, workerId, settledToken } = carrier;
      Object.assign(job, { id, enqueuedAt, status, since, history, startedAt, workerId, settledToken });
      job.callbacks = mergeCallbacks(carrier.callbacks, job.callbacks);
      inherit(job, carrier);
    } else if (!hasRoom()) return undefined;
    const data = JSON.stringify(newJob.data);
    if (newJob.data.image.kind === 'inline') job.inlineBytes = Buffer.byteLength(data);
    const remaining = others.filter((other) => other !== carrier);
    wait(job, remaining);
    run('INSERT OR REPLACE INTO payloads VALUES (?, ?)', job.id, data);
    if (carrier !== undefined) return absorb(newJob.id, job, true);
    return { id: job.id, replaced: false, superseded: false, version };
  }

  /** What an enqueue with the same id was answered. */
  function firstAnswer(id: string): Answer | undefined {
    const job = find(id);
    if (job === undefined) return findAbsorbed(id)?.answer;
    return { id, replaced: false, superseded: false, version: job.version };
  }

  /** An enqueue whose data, or newer data, another job carried: up to which sequence. */
  function findAbsorbed(id: string): { readonly answer: Answer; readonly sequence: number } | undefined {
    const row = get<{ answer: string; sequence: number }>('SELECT * FROM absorbed WHERE id = ?', id);
    return row && { ...row, answer: JSON.parse(row.answer) as Answer };
  }

  function absorb(id: string, { id: carrier, version, sequence }: Job, replaced: boolean): Answer {
    const answer = { id: carrier, replaced, superseded: !replaced, version };
    run('INSERT INTO absorbed VALUES (?, ?, ?, ?)', id, JSON.stringify(answer), sequence, now());
    return answer;
  }

  /** Of two jobs of an image, the first makes the other needless. */
  const isInsteadOf = (job: Job, other: Job) =>
    isNewer(job, other) && toDue(job, now()) <= toDue(other, now()) && !job.cancelRequested;

  /** What stays of a waiting job that a newer one replaces. */
  function inherit(job: Job, replaced: Job): void {
    job.crashes = Math.max(job.crashes, replaced.crashes);
    job.priority = higherOf(job.priority, replaced.priority);
    if (replaced.waitsFor !== 'time') job.turn = Math.min(job.turn, replaced.turn);
  }

  // Wait and end ------------------------------------------------------------------------------------------------------

  /**
   * A job comes to wait: it is new, or waits again, or its time has come. The newest of its image wins: the job ends
   * when a newer one is due no later, and ends older ones that are due no sooner.
   * @returns whether it waits
   */
  function wait(job: Job, others = siblings(job)): boolean {
    if (others.some((other) => isInsteadOf(other, job))) {
      finish(job, 'cancelled');
      return false;
    }
    const running = others.find(({ status }) => status === 'processing');
    for (const other of others) {
      if (other === running || !isInsteadOf(job, other)) continue;
      inherit(job, other);
      finish(other, 'cancelled');
    }
    if (toDue(job, now()) > 0) move(job, 'delayed', { waitsFor: 'time' });
    else if (running !== undefined) move(job, 'queued', { waitsFor: 'sibling', availableAt: null });
    else if (findHost(job.host)) move(job, 'delayed', { waitsFor: 'host', availableAt: null });
    else move(job, 'queued', { waitsFor: null, availableAt: null });
    return true;
  }

  /**
   * The one place where a job ends: one that waits or runs, or a dead letter, whose failure was reported before. When it
   * ran, the job of its image that waits for that gets in line.
   */
  function finish(job: Job, status: Delivery['end']): void {
    const wasEnded = ENDED_STATUSES.includes(job.status);
    const followUp =
      job.status === 'processing' && siblings(job).find(({ waitsFor }) => waitsFor === 'sibling');
    if (status !== 'failed') {
      run('DELETE FROM payloads WHERE id = ?', job.id);
      job.inlineBytes = 0;
    }
    move(job, status, { waitsFor: null, availableAt: null, endedAt: now() });
    if (followUp) wait(followUp);
    if (!wasEnded) reportEnd(job, status);
  }

  /**
   * Adds a delivery to each address that wants to hear of the end of a job. Nothing stands between an end and its
   * delivery: both are in the same transaction.
   */
  function reportEnd(job: Job, end: Delivery['end']): void {
    const { productId, imageId } = job;
    for (const { url, host } of job.callbacks) {
      const [id, sequence] = [randomUUIDv7(), nextSequence()];
      const data: DeliveryJobData = { kind: 'delivery', url, job: toView(job, null, null) };
      wait({
        ...NEW_JOB,
        ...{ id, key: id, productId, imageId, host, delivery: { jobId: job.id, url, end } },
        ...{ priority: 'high', maxAttempts: DELIVERY_RETRY.attempts, enqueuedAt: now(), availableAt: null },
        ...{ version: sequence, sequence, turn: sequence, since: sequence },
      });
      run('INSERT INTO payloads VALUES (?, ?)', id, JSON.stringify(data));
    }
  }

  /** Saves a job in its new state, without a lease unless the changes have one. */
  function move(job: Job, status: Job['status'], changes: Partial<Job>): void {
    if (job.status !== status) job.since = nextSequence();
    save(Object.assign(job, { status, token: null, leaseUntil: null, stage: null }, changes));
  }

  /** Delayed jobs whose time has come get in line. */
  function promote(): void {
    const due =
      "SELECT * FROM jobs WHERE place = 'time' AND availableAt <= ? ORDER BY availableAt, sequence LIMIT ?";
    for (const { id } of jobs(due, now(), MAX_MOVED)) {
      // One before it may have ended it.
      const job = find(id);
      if (job?.place !== 'time' || job.availableAt === null) continue;
      job.turn = job.availableAt * 1_000;
      wait(job);
    }
  }

  // Claim -------------------------------------------------------------------------------------------------------------

  function claim(request: ClaimRequest): Claim {
    const { claimId, workerId, suspect = false } = request;
    const isPaused = meta('paused') === 1;
    const isRepeated = tables.value('SELECT 1 FROM claims WHERE id = ?', claimId) === 1;
    const claimed = isRepeated ? stillHeld(claimId) : isPaused ? [] : take(request);
    if (!isRepeated && claimed.length > 0) {
      run('INSERT INTO claims VALUES (?, ?)', claimId, now());
      noteHeartbeat(workerId);
    }
    const mayClaimMore = !suspect && claimed.length === 0 && nextInLine(1) !== undefined;
    const nextDueMs = isPaused ? null : mayClaimMore ? 0 : tables.nextDueMs();
    return { jobs: claimed, suspectsWaiting: tables.counts().suspects, nextDueMs };
  }

  /** What a repeated claim still has of its first answer. */
  function stillHeld(claimId: string): ClaimedJob[] {
    const held = jobs("SELECT * FROM jobs WHERE place = 'processing' AND token = ? ORDER BY since", claimId);
    return held.map((job) => toClaimed(job, JSON.parse(payload(job.id) ?? 'null') as JobData));
  }

  function take(request: ClaimRequest): ClaimedJob[] {
    const { workerId, claimId, max, maxBytes = CLAIM_MAX_BYTES, suspect = false } = request;
    const taken: ClaimedJob[] = [];
    let bytes = 0;

    /** @returns false when the claim has no room for it */
    function lease(job: Job): boolean {
      if (taken.length === max) return false;
      const text = payload(job.id) ?? '';
      bytes += Buffer.byteLength(text);
      if (taken.length > 0 && bytes > maxBytes) return false;
      const data = parseData(text);
      if (data === undefined) {
        failUnreadable(job);
        return true;
      }
      job.attempts += 1;
      job.deliveries += 1;
      const leased = { token: claimId, workerId, startedAt: now(), leaseUntil: now() + leaseMs };
      move(job, 'processing', { ...leased, stage: 'waiting', waitsFor: null });
      taken.push(toClaimed(job, data));
      return true;
    }

    /** Jobs of slowed hosts, as fast as these allow. */
    function takeFromHosts(): void {
      for (const { host, nextAt, perSecond } of tables.dueHosts()) {
        const start = Math.max(nextAt, now() - HOST_PACE.burstMs);
        let at = start;
        for (let job = tables.firstOfHost(host); job && at <= now(); job = tables.firstOfHost(host)) {
          if (job.crashes > 0) move(job, 'queued', { waitsFor: null });
          else if (!lease(job)) break;
          at += 1_000 / perSecond;
        }
        if (at > start) run('UPDATE hosts SET nextAt = ? WHERE host = ?', at, host);
      }
    }

    function takeFromLines(): void {
      const first = meta('turns');
      let turns = first;
      for (let parked = 0; parked < MAX_MOVED; ) {
        const job = nextInLine(turns + 1);
        if (job === undefined) break;
        if (findHost(job.host)) {
          move(job, 'delayed', { waitsFor: 'host' });
          parked += 1;
        } else if (lease(job)) turns += 1;
        else break;
      }
      // A claim that finds nothing writes nothing.
      if (turns > first) setMeta('turns', turns % AGED_TURN);
    }

    promote();
    const alone = suspect ? firstIn('suspects') : undefined;
    if (alone !== undefined) lease(alone);
    if (!suspect) {
      takeFromHosts();
      takeFromLines();
    }
    return taken;
  }

  const firstIn = (line: string) =>
    jobs(`SELECT * FROM jobs WHERE ${IN_LINE} AND place = ? ORDER BY turn, sequence LIMIT 1`, line)[0];

  /** By priority, but every so many turns the one that has waited longest. */
  function nextInLine(turn: number): Job | undefined {
    const isAged = turn % AGED_TURN === 0;
    const heads: Job[] = [];
    for (const priority of PRIORITIES) {
      const head = firstIn(priority);
      if (head !== undefined && !isAged) return head;
      if (head !== undefined) heads.push(head);
    }
    return heads.toSorted((a, b) => a.turn - b.turn)[0];
  }

  function toClaimed(job: Job, data: JobData): ClaimedJob {
    const { id, key, version, sequence, priority, maxAttempts, crashes, leasedMs } = job;
    const lease = {
      ...{ id, key, version, sequence, priority, maxAttempts, crashes, leasedMs },
      token: job.token ?? '',
      attempt: job.attempts,
      redelivered: job.deliveries > 1,
      deferredMs: job.deferredAt === null ? 0 : Math.max(0, now() - job.deferredAt),
    };
    return data.kind === 'image' ? { ...lease, data } : { ...lease, data };
  }

  function failUnreadable(job: Job): void {
    job.lastError = toJobError('job_unreadable', 'The stored data of the job is damaged.');
    finish(job, 'failed');
  }

  // Renew and settle --------------------------------------------------------------------------------------------------

  const noteHeartbeat = (workerId: string) =>
    void run('INSERT OR REPLACE INTO heartbeats VALUES (?, ?)', workerId, now());

  function renew({ id, token, stage }: Lease & Pick<Job, 'stage'>): Renewal {
    const update = 'UPDATE jobs SET stage = ?, leaseUntil = ? WHERE id = ? AND token = ? RETURNING *';
    const [job] = jobs(update, stage, now() + leaseMs, id, token);
    return job === undefined ? 'lost' : job.cancelRequested ? 'cancel' : 'renewed';
  }

  function settle(settlement: Settlement): Settled {
    const { id, token, kind } = settlement;
    const job = find(id);
    if (job?.token !== token) return job?.settledToken === token ? 'settled' : 'lost';
    job.settledToken = token;
    if ('processingMs' in settlement) {
      job.processingMs = Math.round(settlement.processingMs);
      const attempt = [nextSequence(), Number(kind === 'complete'), job.processingMs];
      // Rates and times are those of images.
      if (job.delivery === null) run('INSERT INTO attempts VALUES (?, ?, ?)', ...attempt);
    }
    if (kind === 'complete' || kind === 'fail') speedUp(job);
    switch (kind) {
      case 'complete':
        endAttempt(job, 'completed');
        Object.assign(job, { result: settlement.result, lastError: null });
        finish(job, 'completed');
        break;
      case 'retry':
      case 'fail':
        if (kind === 'retry' && job.attempts < job.maxAttempts) {
          endAttempt(job, 'retried', settlement.error);
          job.turn = nextSequence();
          waitAgain(job, settlement.delayMs);
        } else {
          endAttempt(job, 'failed', settlement.error);
          finish(job, job.cancelRequested ? 'cancelled' : 'failed');
        }
        break;
      case 'release':
        endAttempt(job, 'released');
        waitAgain(job);
        break;
      case 'defer':
        endAttempt(job, 'deferred', settlement.error);
        job.deferredAt ??= now();
        if (job.host !== null) slowDown(job.host, job, settlement.delayMs);
        waitAgain(job, job.host === null ? settlement.delayMs : 0);
        break;
      case 'cancel':
        endAttempt(job, 'cancelled');
        finish(job, 'cancelled');
    }
    return 'settled';
  }

  /** The lease ran out. A crash stays counted for the image: by its other jobs when this one doesn't wait. */
  function expire(job: Job, isCrash: boolean): 'recovered' | 'poisoned' | 'ended' {
    endAttempt(job, isCrash ? 'crashed' : 'released');
    if (!isCrash) return waitAgain(job) ? 'recovered' : 'ended';
    job.crashes += 1;
    const isPoison = job.crashes >= MAX_CRASHES && !job.cancelRequested;
    if (isPoison) {
      job.lastError = toJobError('job_poison', `The job ended ${MAX_CRASHES} workers.`);
      finish(job, 'failed');
    } else if (waitAgain(job)) return 'recovered';
    run(`UPDATE jobs SET crashes = max(crashes, ?) WHERE key = ? AND ${LIVE}`, job.crashes, job.key);
    return isPoison ? 'poisoned' : 'ended';
  }

  /** Adds to the history what came of a lease. Only a failure counts as an attempt, and a success. */
  function endAttempt(job: Job, outcome: AttemptRecord['outcome'], error?: JobError): void {
    const startedAt = job.startedAt ?? now();
    const attempt = { startedAt, endedAt: now(), workerId: job.workerId ?? '', outcome };
    job.history = [...job.history, error === undefined ? attempt : { ...attempt, error }].slice(-MAX_HISTORY);
    job.leasedMs += Math.max(0, Math.min(now(), job.leaseUntil ?? now()) - startedAt);
    job.lastError = error ?? job.lastError;
    if (outcome === 'released' || outcome === 'deferred' || outcome === 'crashed') job.attempts -= 1;
  }

  /** A running job is to wait, unless it was cancelled; returns whether it does. */
  function waitAgain(job: Job, delayMs = 0): boolean {
    job.availableAt = now() + Math.ceil(delayMs);
    if (!job.cancelRequested) return wait(job);
    finish(job, 'cancelled');
    return false;
  }

  /** Of several deferrals of jobs that ran at the same time, the first makes the host slower. */
  function slowDown(name: string, { startedAt }: Job, delayMs: number): void {
    const known = findHost(name);
    const isNews = known === undefined || (startedAt ?? 0) >= known.deferredAt;
    const { perSecond, ceiling } = isNews ? toSlowerPace(known) : known;
    const nextAt = Math.max(known?.nextAt ?? 0, now() + delayMs);
    const row = [name, perSecond, ceiling, nextAt, isNews ? now() : known.deferredAt];
    run('INSERT OR REPLACE INTO hosts VALUES (?, ?, ?, ?, ?)', ...row);
  }

  /** A slowed host served a job that was claimed since it asked. */
  function speedUp({ host, startedAt }: Job): void {
    const known = findHost(host);
    if (known === undefined || (startedAt ?? 0) < known.deferredAt) return;
    run('UPDATE hosts SET perSecond = ? WHERE host = ?', toFasterPerSecond(known), host);
  }

  // What people ask for -----------------------------------------------------------------------------------------------

  function cancel(id: string): 'cancelled' | 'requested' | 'ended' | 'unknown' {
    const absorbed = findAbsorbed(id);
    const job = find(absorbed?.answer.id ?? id);
    if (job === undefined) return absorbed === undefined ? 'unknown' : 'ended';
    const carriesOther = absorbed !== undefined && absorbed.sequence !== job.sequence;
    if (carriesOther || absorbed?.answer.superseded) return 'ended';
    if (job.status === 'cancelled') return 'cancelled';
    return job.endedAt === null ? stop(job) : 'ended';
  }

  function stop(job: Job): 'cancelled' | 'requested' {
    if (job.status === 'processing') {
      save({ ...job, cancelRequested: true });
      return 'requested';
    }
    finish(job, 'cancelled');
    return 'cancelled';
  }

  function forgetProduct(productId: string, imageId?: string): ForgottenProduct {
    const found = jobs(
      `SELECT * FROM jobs WHERE productId = ? AND imageId = coalesce(?, imageId) AND ${FORGETTABLE} ORDER BY key`,
      ...[productId, imageId ?? null],
    );
    const cancelled = found.filter((job) => stop(job) === 'cancelled').length;
    const imageIds = [...new Set(found.map(({ imageId }) => imageId))];
    return { sequence: nextSequence(), cancelled, imageIds };
  }

  /** A dead letter waits again, with its old version, unless its payload was dropped; returns whether it does. */
  function redrive(job: Job): boolean {
    if (payload(job.id) === undefined) return false;
    const running = siblings(job).find(({ status }) => status === 'processing');
    if (running !== undefined && !running.cancelRequested && isNewer(running, job)) {
      finish(job, 'cancelled');
      return false;
    }
    Object.assign(job, { attempts: 0, crashes: 0, cancelRequested: false, leasedMs: 0 });
    Object.assign(job, { deferredAt: null, endedAt: null, turn: nextSequence() });
    return wait(job);
  }

  return {
    ...{ enqueue, findAbsorbed, promote, claim, noteHeartbeat, renew, settle, expire },
    ...{ cancel, forgetProduct, redrive, wait, failUnreadable },
  };
}

/** What every new job begins with, before it gets its place. */
const NEW_JOB = {
  status: 'queued',
  ...{
    waitsFor: null,
    attempts: 0,
    crashes: 0,
    deliveries: 0,
    leasedMs: 0,
    inlineBytes: 0,
  },
  ...{ startedAt: null, endedAt: null, leaseUntil: null, deferredAt: null, processingMs: null, token: null },
  ...{ settledToken: null, workerId: null, stage: null, lastError: null, result: null, history: [] },
  ...{ cancelRequested: false, callbacks: [], delivery: null },
} as const;

function toJob(job: NewJob, version: number, sequence: number, now: number): Job {
  const { id, key, priority, maxAttempts, notBefore, callbackUrl, ageMs = 0 } = job;
  const { productId, imageId, image } = job.data;
  const enqueuedAt = now - Math.round(ageMs);
  const dueAt = notBefore && ('delayMs' in notBefore ? enqueuedAt + notBefore.delayMs : notBefore.atMs);
  const availableAt = dueAt === undefined ? null : Math.ceil(dueAt);
  return {
    ...NEW_JOB,
    ...{ id, key, productId, imageId, priority, maxAttempts, version, sequence, enqueuedAt, availableAt },
    ...{ turn: sequence, since: sequence, host: toImageHost(image) },
    callbacks: callbackUrl === undefined ? [] : [toCallback(callbackUrl)],
  };
}

/** Undefined when it is damaged. */
function parseData(json: string): JobData | undefined {
  try {
    return JSON.parse(json) as JobData;
  } catch {
    return undefined;
  }
}
