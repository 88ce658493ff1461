import type { DatabaseSync } from 'node:sqlite';
import { VitrineError } from '../../errors/vitrine-error.ts';
import type { WorkerRegistry, WorkerReport } from '../worker-registry.ts';

/** One row a worker, which counts for nothing after its life has run out. */
export function createSqliteRegistry(database: DatabaseSync): WorkerRegistry {
  const sql = {
    beat: database.prepare('INSERT OR REPLACE INTO workers VALUES (?, ?, ?, ?)'),
    remove: database.prepare('DELETE FROM workers WHERE id = ?'),
    sweep: database.prepare('DELETE FROM workers WHERE until <= ?'),
    list: database.prepare('SELECT report, seenAt FROM workers WHERE until > ? ORDER BY id'),
  };

  async function attempt<T>(work: () => T): Promise<T> {
    try {
      return work();
    } catch (error) {
      throw new VitrineError('queue_unavailable', 'The queue file could not be used.', { cause: error });
    }
  }

  return {
    beat: (report, ttlMs) =>
      attempt(() => {
        const now = Date.now();
        sql.beat.run(report.id, JSON.stringify(report), now, now + Math.ceil(ttlMs));
        sql.sweep.run(now);
      }),
    remove: (id) => attempt(() => void sql.remove.run(id)),
    list: () =>
      attempt(() => {
        const now = Date.now();
        const rows = sql.list.all(now) as unknown as { report: string; seenAt: number }[];
        return rows.map(({ report, seenAt }) => ({
          ...(JSON.parse(report) as WorkerReport),
          lastSeenMs: Math.max(0, now - seenAt),
        }));
      }),
  };
}
