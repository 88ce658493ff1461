import type { DatabaseSync } from 'node:sqlite';
import type { QueueStats, Settlement } from '../port.ts';
import type { Ledger } from './sqlite-queue-ledger.ts';

const RATE_SECONDS = 60;
const RECENTLY_DEAD_MS = 300_000;

/** Ended attempts of the last minute, by second. */
export function createRates(database: DatabaseSync) {
  const sql = {
    mark: database.prepare(
      'INSERT INTO rates VALUES (:second, :completed, 1) ON CONFLICT DO UPDATE SET completed = completed + :completed, ended = ended + 1',
    ),
    trim: database.prepare('DELETE FROM rates WHERE second <= ?'),
    sums: database.prepare(
      'SELECT total(completed) AS completed, total(ended) AS ended FROM rates WHERE second > :second - :span AND second <= :second',
    ),
  };

  function sums(now: number): { completed: number; ended: number } {
    const second = Math.floor(now / 1_000);
    return sql.sums.get({ second, span: RATE_SECONDS }) as { completed: number; ended: number };
  }

  return {
    sums,
    completedPerSecond: (now: number) => sums(now).completed / RATE_SECONDS,
    mark(kind: Settlement['kind'], now: number): void {
      if (kind === 'release' || kind === 'cancel') return;
      const second = Math.floor(now / 1_000);
      sql.mark.run({ second, completed: kind === 'complete' ? 1 : 0 });
      sql.trim.run(second - RATE_SECONDS);
    },
  };
}

export function readStats(
  database: DatabaseSync,
  ledger: Ledger,
  rates: ReturnType<typeof createRates>,
  now: number,
): QueueStats {
  const byPlace = ledger.counts();
  const { completed, ended } = rates.sums(now);
  const { n: recentlyDead } = database
    .prepare("SELECT count(*) AS n FROM jobs WHERE place = 'f' AND ord >= ?")
    .get((now - RECENTLY_DEAD_MS) * 1_000) as { n: number };
  // Suspects and follow-ups wait with the others of their priority.
  const asides = database
    .prepare("SELECT priority, count(*) AS n FROM jobs WHERE place IN ('s', 'p') GROUP BY priority")
    .all() as unknown as { priority: number; n: number }[];
  const aside = (rank: number) => asides.find(({ priority }) => priority === rank)?.n ?? 0;
  const oldest = ['h', 'n', 'l', 's'].flatMap((place) => {
    const row = database.prepare('SELECT min(ord) AS ord FROM jobs WHERE place = ?').get(place);
    const ord = (row as { ord: number | null }).ord;
    return ord === null ? [] : [ord];
  });
  return {
    waiting: { high: byPlace.h + aside(1), normal: byPlace.n + aside(2), low: byPlace.l + aside(3) },
    delayed: byPlace.d,
    processing: byPlace.r,
    dead: byPlace.f,
    completed: ledger.meta('completed'),
    failed: ledger.meta('failed'),
    cancelled: ledger.meta('cancelled'),
    completedPerSecond: completed / RATE_SECONDS,
    failureRate: ended === 0 ? 0 : 1 - completed / ended,
    recentlyDead,
    oldestWaitingMs: oldest.length === 0 ? null : Math.max(0, now - Math.floor(Math.min(...oldest) / 1_000)),
    paused: ledger.meta('paused') === 1,
  };
}
