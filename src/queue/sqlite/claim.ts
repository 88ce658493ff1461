import { AGED_TURN, type ImageJobData, type JobData, PRIORITIES } from '../job.ts';
import { CLAIM_MAX_BYTES, type Claim, type ClaimedJob, type ClaimRequest, type Delivery } from '../port.ts';
import { HOST_PACE } from '../shared.ts';
import { type Jobs, parseJson } from './jobs.ts';
import type { JobRow } from './schema.ts';
import type { Host, Transitions } from './transitions.ts';
import { toView } from './views.ts';

/** Jobs of paused hosts that one claim moves out of the lines. */
const MAX_PARKED = 500;

/** Hands out jobs. Runs in a transaction. */
export function createClaim(jobs: Jobs, transitions: Transitions, leaseMs: number) {
  const parkedOf = (host: string, suspect: boolean) =>
    jobs.get<JobRow>(
      `SELECT * FROM jobs WHERE place = 'host' AND host = ? AND (crashes > 0) = ? ORDER BY turn, sequence LIMIT 1`,
      ...[host, suspect ? 1 : 0],
    );
  const dueHosts = (now: number) =>
    jobs.all<Host>('SELECT * FROM hosts WHERE nextAt <= ? ORDER BY nextAt', now);

  /** Undefined when it is damaged. */
  function readData(job: JobRow): JobData | undefined {
    const payload = jobs.payload(job.id);
    if (job.delivers === null) {
      // Earlier versions stored no kind.
      const data = parseJson<ImageJobData>(payload);
      return data && { ...data, kind: 'image' };
    }
    const ended = parseJson<JobRow>(payload);
    const { url } = JSON.parse(job.delivers) as Delivery;
    return ended && { kind: 'delivery', url, job: toView(ended, ended.status, null) };
  }

  /** The job whose turn it is: by priority, but every so many turns the one that has waited longest. */
  function pick(suspect: boolean): JobRow | undefined {
    if (suspect) return jobs.head('suspects');
    const heads = PRIORITIES.map(jobs.head).filter((job) => job !== undefined);
    if ((jobs.meta('claimed') + 1) % AGED_TURN !== 0) return heads[0];
    return heads.toSorted((a, b) => a.turn - b.turn)[0];
  }

  function take(request: ClaimRequest, now: number): { taken: ClaimedJob[]; isMoreToMove: boolean } {
    const { suspect = false, maxBytes = CLAIM_MAX_BYTES } = request;
    const max = suspect ? 1 : request.max;
    const taken: ClaimedJob[] = [];
    let [bytes, parked] = [0, 0];
    const hasRoomFor = (job: JobRow) =>
      taken.length < max && (taken.length === 0 || bytes + job.bytes <= maxBytes);

    /** @returns whether it was claimed: an unreadable one goes to the dead letters instead */
    function lease(job: JobRow): boolean {
      const data = readData(job);
      if (data === undefined) {
        transitions.failUnreadable(job, now);
        return false;
      }
      transitions.setStatus(job, 'processing');
      Object.assign(job, { waitsFor: null, token: request.claimId, workerId: request.workerId });
      Object.assign(job, { startedAt: now, leaseUntil: now + leaseMs, stage: 'waiting' });
      job.attempts += 1;
      job.deliveries += 1;
      jobs.save(job);
      taken.push(toClaimedJob(job, data, now));
      bytes += job.bytes;
      return true;
    }

    /** Jobs of hosts that asked to slow down, as fast as each host's pace allows. */
    function takeParked(): void {
      for (const host of dueHosts(now)) {
        const firstAt = Math.max(host.nextAt, now - HOST_PACE.burstMs);
        let nextAt = firstAt;
        while (nextAt <= now) {
          const job = parkedOf(host.host, suspect);
          if (job === undefined || !hasRoomFor(job)) break;
          if (lease(job)) nextAt += 1_000 / host.perSecond;
        }
        if (nextAt > firstAt) transitions.saveHost({ ...host, nextAt });
      }
    }

    takeParked();
    while (parked < MAX_PARKED) {
      const job = pick(suspect);
      if (job === undefined || !hasRoomFor(job)) break;
      if (transitions.findHost(job.host) !== undefined) {
        transitions.park(job);
        parked += 1;
      } else if (lease(job) && !suspect) jobs.add('claimed', 1);
    }
    if (parked > 0) takeParked();
    return { taken, isMoreToMove: parked === MAX_PARKED };
  }

  /** What a repeated claim still holds of its first answer. */
  function held(ids: readonly string[], claimId: string, now: number): ClaimedJob[] {
    return ids.flatMap((id) => {
      const job = jobs.find(id);
      const data = job === undefined ? undefined : readData(job);
      return job?.token === claimId && data !== undefined ? [toClaimedJob(job, data, now)] : [];
    });
  }

  function nextDueMs(now: number): number | null {
    const next = jobs.get<{ at: number | null }>(
      `SELECT min(at) AS at FROM (
         SELECT min(availableAt) AS at FROM jobs WHERE place = 'time' UNION ALL SELECT min(nextAt) FROM hosts
         WHERE EXISTS (SELECT 1 FROM jobs WHERE place = 'host' AND host = hosts.host))`,
    );
    return next === undefined || next.at === null ? null : Math.max(0, Math.ceil(next.at - now));
  }

  return function claim(request: ClaimRequest, now: number): Claim {
    const first = jobs.get<{ jobs: string }>('SELECT jobs FROM claims WHERE id = ?', request.claimId);
    const paused = jobs.meta('paused') === 1;
    const answer = { taken: [] as ClaimedJob[], isMoreToMove: false };
    if (first !== undefined) answer.taken = held(JSON.parse(first.jobs) as string[], request.claimId, now);
    else if (!paused) {
      transitions.promote(now);
      Object.assign(answer, take(request, now));
      const ids = answer.taken.map(({ id }) => id);
      if (ids.length > 0)
        jobs.run('INSERT INTO claims VALUES (?, ?, ?)', request.claimId, JSON.stringify(ids), now);
    }
    const parkedSuspects = dueHosts(now).filter(({ host }) => parkedOf(host, true) !== undefined);
    return {
      jobs: answer.taken,
      suspectsWaiting: jobs.counts().suspects + parkedSuspects.length,
      nextDueMs: paused ? null : answer.isMoreToMove ? 0 : nextDueMs(now),
    };
  };
}

function toClaimedJob(job: JobRow, data: JobData, now: number): ClaimedJob {
  const { id, key, version, sequence, priority, maxAttempts, crashes, leasedMs } = job;
  const lease = {
    ...{ id, key, version, sequence, priority, maxAttempts, crashes, leasedMs },
    token: job.token ?? '',
    attempt: job.attempts,
    redelivered: job.deliveries > 1,
    deferredMs: job.deferredAt === null ? 0 : Math.max(0, now - job.deferredAt),
  };
  return data.kind === 'image' ? { ...lease, data } : { ...lease, data };
}
