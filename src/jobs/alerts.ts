import type { Config } from '../config/config.ts';
import type { QueueStats } from '../queue/port.ts';
import type { ALERTS } from './schemas.ts';

export interface Alert {
  readonly code: (typeof ALERTS)[number];
  readonly message: string;
  readonly value: number;
  /** What the value has passed, or, for a cap, reached. */
  readonly threshold: number;
}

/** How many jobs wait for nothing but a worker. */
export function toWaiting({ waiting }: QueueStats): number {
  return waiting.high + waiting.normal + waiting.low;
}

/** How many jobs have not ended. */
export function toPending(stats: QueueStats): number {
  return toWaiting(stats) + stats.delayed + stats.processing;
}

/** What an operator should look at now. A threshold of 0 silences its alert. */
export function toAlerts(
  stats: QueueStats,
  workersAlive: number,
  { alerts: thresholds, queue }: Pick<Config, 'alerts' | 'queue'>,
): readonly Alert[] {
  const { backlog, oldestWaitingMs, failureRate, recentlyDead } = thresholds;
  const { maxDead } = queue.settings;
  const thresholdAlerts: readonly Alert[] = [
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
  const deadDropped: Alert = {
    code: 'dead_letters_dropped',
    message:
      'There are as many dead letters as are kept, and the oldest are dropped. Redrive or purge them, or raise MAX_DEAD.',
    value: stats.dead + stats.deadDropped,
    threshold: maxDead,
  };
  return [
    ...(workersAlive === 0 && toWaiting(stats) > 0 ? [noWorkers] : []),
    ...thresholdAlerts.filter(({ value, threshold }) => threshold > 0 && value > threshold),
    ...(stats.deadDropped > 0 || (maxDead > 0 && stats.dead >= maxDead) ? [deadDropped] : []),
  ];
}
