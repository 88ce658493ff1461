import type { Config } from '../config/config.ts';
import type { QueueStats } from '../queue/port.ts';

export const ALERTS = ['backlog', 'oldest_waiting', 'no_workers', 'failure_rate', 'dead_letters'] as const;

export interface Alert {
  readonly code: (typeof ALERTS)[number];
  readonly message: string;
  readonly value: number;
  /** What the value has passed. */
  readonly threshold: number;
}

/** How many jobs have not ended. */
export function toPending({ waiting, delayed, processing }: QueueStats): number {
  return waiting.high + waiting.normal + waiting.low + delayed + processing;
}

/** What an operator should look at now. A threshold of 0 silences its alert. */
export function toAlerts(
  stats: QueueStats,
  workersAlive: number,
  thresholds: Config['alerts'],
): readonly Alert[] {
  const { backlog, oldestWaitingMs, failureRate, recentlyDead } = thresholds;
  const claimable = toPending(stats) - stats.delayed - stats.processing;
  const all: readonly Alert[] = [
    {
      code: 'backlog',
      message: 'Many jobs have not ended. Add workers, or enqueue less.',
      value: toPending(stats),
      threshold: backlog,
    },
    {
      code: 'oldest_waiting',
      message: 'A job has waited long, in milliseconds. Add workers, or see whether the queue is paused.',
      value: stats.oldestWaitingMs ?? 0,
      threshold: oldestWaitingMs,
    },
    {
      code: 'failure_rate',
      message: 'Many attempts of the last minute failed. GET /queue/dead names the errors.',
      value: stats.failureRate,
      threshold: failureRate,
    },
    {
      code: 'dead_letters',
      message: 'Dead letters of the last 5 minutes. GET /queue/dead names the errors.',
      value: stats.recentlyDead,
      threshold: recentlyDead,
    },
  ];
  const noWorkers: Alert = {
    code: 'no_workers',
    message: 'Jobs wait and no worker is alive. Start one: npm run worker.',
    value: 0,
    threshold: 1,
  };
  return [
    ...(workersAlive === 0 && claimable > 0 ? [noWorkers] : []),
    ...all.filter(({ value, threshold }) => threshold > 0 && value > threshold),
  ];
}
