import type { DatabaseSync } from 'node:sqlite';
import type { QueueSettings, ReapResult } from '../port.ts';
import { ENQUEUE_ID_TTL_MS, HOST_PACE } from '../shared.ts';
import type { Jobs } from './jobs.ts';
import { IN_LINE, type JobRow } from './schema.ts';
import type { Transitions } from './transitions.ts';

/** How long a claim can be repeated, and how long the heartbeat of a worker is of interest. */
const HOUR_MS = 3_600_000;

/** Expired leases, and what is kept too long. Runs in a transaction; `limit` bounds the work of one. */
export function createUpkeep(
  database: DatabaseSync,
  jobs: Jobs,
  transitions: Transitions,
  settings: QueueSettings,
) {
  const { lease, endedTtlMs, maxEnded, maxDead, maxDeadInlineBytes } = settings;
  const sql = {
    expired: database.prepare("SELECT * FROM jobs WHERE place = 'processing' AND leaseUntil <= ? LIMIT ?"),
    heartbeat: database.prepare('SELECT at FROM heartbeats WHERE workerId = ?'),
    old: database.prepare(
      "SELECT id FROM jobs WHERE status IN ('completed', 'cancelled') AND since <= ? LIMIT ?",
    ),
    oldest: database.prepare(
      `SELECT id FROM (SELECT * FROM (SELECT id, since FROM jobs WHERE status = :one ORDER BY since LIMIT :limit)
       UNION ALL SELECT * FROM (SELECT id, since FROM jobs WHERE status = :other ORDER BY since LIMIT :limit))
       ORDER BY since LIMIT :limit`,
    ),
    tooMuchInline: database.prepare(
      `SELECT id FROM (
         SELECT id, sum(inlineBytes) OVER (ORDER BY since DESC) AS bytes FROM jobs
         WHERE status = 'failed' AND inlineBytes > 0
       ) WHERE bytes > ?`,
    ),
    dropInline: database.prepare('UPDATE jobs SET inlineBytes = 0 WHERE id = ?'),
    idleHosts: database.prepare(
      "DELETE FROM hosts WHERE deferredAt <= ? AND NOT EXISTS (SELECT 1 FROM jobs WHERE place = 'host' AND host = hosts.host)",
    ),
    byAge: (
      [
        ['absorbed', 'at', ENQUEUE_ID_TTL_MS],
        ['claims', 'at', HOUR_MS],
        ['heartbeats', 'at', HOUR_MS],
        ['workers', 'seenAt', HOUR_MS],
        ['remembered', 'until', 0],
      ] as const
    ).map(([table, column, ttlMs]) => ({
      remove: database.prepare(`DELETE FROM ${table} WHERE ${column} <= ?`),
      ttlMs,
    })),
    bare: database.prepare(
      "SELECT * FROM jobs WHERE status IN ('queued', 'delayed') AND id NOT IN (SELECT id FROM payloads)",
    ),
    misplaced: database.prepare(
      `SELECT * FROM jobs AS job WHERE (${IN_LINE} OR place IN ('sibling', 'host')) AND (
         (place = 'sibling') <> EXISTS (SELECT 1 FROM jobs WHERE key = job.key AND place = 'processing')
         OR (place = 'host' AND host NOT IN (SELECT host FROM hosts)))`,
    ),
  };
  const ids = (rows: unknown) => (rows as { id: string }[]).map(({ id }) => id);
  const removeAll = (removed: readonly string[]) => {
    for (const id of removed) jobs.remove(id);
    return removed.length;
  };

  function reapLeases(limit: number, now: number) {
    const result = { recovered: 0, poisoned: 0, seen: 0 };
    if (now - jobs.meta('lastReapAt') > lease.outageMs) jobs.setMeta('reachableSince', now);
    jobs.setMeta('lastReapAt', now);
    if (now - jobs.meta('reachableSince') < lease.leaseMs) return result;
    for (const { id } of sql.expired.all(now, limit) as unknown as JobRow[]) {
      result.seen += 1;
      const job = jobs.find(id);
      if (job?.status !== 'processing') continue;
      const { at } = (sql.heartbeat.get(job.workerId) ?? { at: 0 }) as { at: number };
      const outcome = transitions.expire(job, now - at >= lease.staleHeartbeatMs, now);
      if (outcome !== 'ended') result[outcome] += 1;
    }
    return result;
  }

  function drop(limit: number, now: number): number {
    const { completed, cancelled, failed } = jobs.counts();
    const excess = (count: number, max: number) => Math.min(limit, Math.max(0, count - max));
    const oldest = (one: string, other: string, count: number) =>
      ids(sql.oldest.all({ one, other, limit: count }));
    const old = removeAll(ids(sql.old.all((now - endedTtlMs) * 1_000, limit)));
    const ended = removeAll(oldest('completed', 'cancelled', excess(completed + cancelled - old, maxEnded)));
    const dead = removeAll(oldest('failed', '', excess(failed, maxDead)));
    if (dead > 0) jobs.add('deadDropped', dead);
    for (const id of ids(sql.tooMuchInline.all(maxDeadInlineBytes))) {
      jobs.dropPayload(id);
      sql.dropInline.run(id);
    }
    return Math.max(old, ended, dead);
  }

  return {
    /** @returns what was reaped, and whether there may be more to do */
    reapPart(limit: number, now: number): ReapResult & { readonly isMore: boolean } {
      const { recovered, poisoned, seen } = reapLeases(limit, now);
      for (const { remove, ttlMs } of sql.byAge) remove.run(now - ttlMs);
      sql.idleHosts.run(now - HOST_PACE.forgetAfterMs);
      return { recovered, poisoned, isMore: Math.max(seen, drop(limit, now)) >= limit };
    },

    /** What the table's own constraints can't hold; returns how many rows were wrong. */
    repair(now: number): number {
      const bare = sql.bare.all() as unknown as JobRow[];
      for (const job of bare) transitions.failUnreadable(job, now);
      const misplaced = sql.misplaced.all() as unknown as JobRow[];
      for (const job of misplaced) {
        const running = jobs.live(job.key).find(({ status }) => status === 'processing');
        transitions.place(job, running, now);
        jobs.save(job);
      }
      return bare.length + misplaced.length;
    },
  };
}
