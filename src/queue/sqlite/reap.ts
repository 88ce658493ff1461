import type { QueueSettings } from '../port.ts';
import { ENQUEUE_ID_TTL_MS, HOST_PACE } from '../shared.ts';
import type { Jobs } from './jobs.ts';
import { IN_LINE, type JobRow } from './schema.ts';
import type { Transitions } from './transitions.ts';

/** How long a claim can be repeated, and how long a worker's last heartbeat is of interest. */
const HOUR_MS = 3_600_000;

/** Expired leases, and what is kept too long. Each runs in a transaction. */
export function createReap(jobs: Jobs, transitions: Transitions, settings: QueueSettings) {
  const { lease, endedTtlMs, maxEnded, maxDead, maxDeadInlineBytes } = settings;

  /** See LeaseTimes for when an expired lease is a crash. */
  function reapLeases(limit: number, now: number) {
    const result = { recovered: 0, poisoned: 0, seen: 0 };
    if (now - jobs.meta('lastReapAt') > lease.outageMs) jobs.setMeta('reachableSince', now);
    jobs.setMeta('lastReapAt', now);
    if (now - jobs.meta('reachableSince') < lease.leaseMs) return result;
    const expired = "SELECT * FROM jobs WHERE place = 'processing' AND leaseUntil <= ? LIMIT ?";
    for (const job of jobs.all<JobRow>(expired, now, limit)) {
      const heartbeat = jobs.get<{ at: number }>(
        'SELECT at FROM heartbeats WHERE workerId = ?',
        job.workerId,
      );
      const isCrash = now - (heartbeat?.at ?? 0) >= lease.staleHeartbeatMs;
      const outcome = transitions.expire(job, isCrash, now);
      if (outcome !== 'ended') result[outcome] += 1;
      result.seen += 1;
    }
    return result;
  }

  /** Removes the jobs that a query selects; returns how many. */
  function remove(query: string, values: Record<string, string | number>): number {
    const rows = jobs.all<{ id: string }>(query, values);
    for (const { id } of rows) jobs.remove(id);
    return rows.length;
  }

  /** @returns how many jobs were dropped */
  function dropEnded(limit: number, now: number): number {
    const firstOf = (status: string) =>
      `SELECT * FROM (SELECT id, since FROM jobs WHERE status = '${status}' AND since <= :until ORDER BY since LIMIT :limit)`;
    const ended = `${firstOf('completed')} UNION ALL ${firstOf('cancelled')} ORDER BY since LIMIT :limit`;
    const { completed, cancelled, failed } = jobs.counts();
    const excess = (count: number, max: number) => Math.min(limit, Math.max(0, count - max));
    const until = Number.MAX_SAFE_INTEGER;
    const tooMany = remove(ended, { until, limit: excess(completed + cancelled, maxEnded) });
    const tooOld = remove(ended, { until: (now - endedTtlMs) * 1_000, limit: limit - tooMany });
    const dead = remove(firstOf('failed'), { until, limit: excess(failed, maxDead) });
    if (dead > 0) jobs.add('deadDropped', dead);
    return Math.max(tooMany + tooOld, dead);
  }

  /** The oldest inline images of dead letters, beyond what may be kept. */
  function dropDeadImages(): void {
    const tooMuch = jobs.all<{ id: string }>(
      `SELECT id FROM (
         SELECT id, sum(inlineBytes) OVER (ORDER BY since DESC) AS total
         FROM jobs WHERE status = 'failed' AND inlineBytes > 0
       ) WHERE total > ?`,
      maxDeadInlineBytes,
    );
    for (const { id } of tooMuch) {
      jobs.dropPayload(id);
      jobs.run('UPDATE jobs SET inlineBytes = 0 WHERE id = ?', id);
    }
  }

  function dropOld(now: number): void {
    jobs.run('DELETE FROM absorbed WHERE at <= ?', now - ENQUEUE_ID_TTL_MS);
    jobs.run('DELETE FROM claims WHERE at <= ?', now - HOUR_MS);
    jobs.run('DELETE FROM heartbeats WHERE at <= ?', now - HOUR_MS);
    jobs.run('DELETE FROM workers WHERE seenAt <= ?', now - HOUR_MS);
    jobs.run('DELETE FROM remembered WHERE until <= ?', now);
    jobs.run(
      `DELETE FROM hosts WHERE deferredAt <= ?
       AND NOT EXISTS (SELECT 1 FROM jobs WHERE place = 'host' AND host = hosts.host)`,
      now - HOST_PACE.forgetAfterMs,
    );
  }

  return {
    /** @param limit of jobs; `isMore` when there may be more to do */
    part(limit: number, now: number) {
      const { recovered, poisoned, seen } = reapLeases(limit, now);
      dropDeadImages();
      dropOld(now);
      return { recovered, poisoned, isMore: Math.max(seen, dropEnded(limit, now)) >= limit };
    },

    /** What the table's own constraints can't hold: returns how many jobs were wrong. */
    repair(now: number): number {
      const withoutPayload = jobs.all<JobRow>(
        "SELECT * FROM jobs WHERE status IN ('queued', 'delayed') AND id NOT IN (SELECT id FROM payloads)",
      );
      for (const job of withoutPayload) transitions.failUnreadable(job, now);
      const misplaced = jobs.all<JobRow>(
        `SELECT * FROM jobs AS job WHERE (${IN_LINE} OR place = 'host') AND (
           (place = 'sibling') <> EXISTS (SELECT 1 FROM jobs WHERE key = job.key AND place = 'processing')
           OR (place = 'host' AND host NOT IN (SELECT host FROM hosts)))`,
      );
      for (const job of misplaced) {
        transitions.place(job, jobs.siblings(job.key).running, now);
        jobs.save(job);
      }
      return withoutPayload.length + misplaced.length;
    },
  };
}
