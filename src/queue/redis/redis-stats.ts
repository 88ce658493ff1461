import { PRIORITIES } from '../job.ts';
import type { QueueStats } from '../port.ts';

/** What lua/stats.lua gives, in its order. */
export type StatNumbers = readonly number[];

const OLDEST = 12;
const PAUSED = 13;

/** Of several groups of keys as if they were one. */
export function addStatNumbers(groups: readonly StatNumbers[]): StatNumbers {
  const [first = []] = groups;
  return first.map((_, index) => {
    const values = groups.map((numbers) => numbers[index] ?? 0);
    return index === OLDEST || index === PAUSED
      ? Math.max(...values)
      : values.reduce((sum, value) => sum + value, 0);
  });
}

export function toStats(numbers: StatNumbers): QueueStats {
  const at = (index: number): number => numbers[index] ?? 0;
  const lines = PRIORITIES.map((priority, index) => [priority, at(index)]);
  return {
    waiting: Object.fromEntries(lines) as QueueStats['waiting'],
    delayed: at(3),
    processing: at(4),
    dead: at(5),
    completed: at(6),
    failed: at(7),
    cancelled: at(8),
    completedPerSecond: at(9) / 60,
    failureRate: at(10) === 0 ? 0 : 1 - at(9) / at(10),
    recentlyDead: at(11),
    oldestWaitingMs: at(OLDEST) < 0 ? null : at(OLDEST),
    paused: at(PAUSED) === 1,
  };
}
