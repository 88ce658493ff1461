import { z } from '@hono/zod-openapi';
import { PRIORITIES } from '../queue/job.ts';
import { count, durationMs } from '../routing/schemas.ts';
import { ALERTS } from './alerts.ts';
import { jobView } from './job-view.ts';

const alert = z.object({
  code: z.enum(ALERTS),
  message: z.string(),
  value: z.number(),
  threshold: z.number(),
});

export const queueStats = z
  .object({
    waiting: z.record(z.enum(PRIORITIES), count),
    delayed: count,
    processing: count,
    dead: count.openapi({ description: 'Jobs in the dead letter now.' }),
    total_pending: count.openapi({
      description: 'waiting + delayed + processing',
    }),
    spooled: count.openapi({ description: 'Accepted while the queue was away, and not forwarded yet.' }),
    completed: count.openapi({ description: 'Since the queue was made or flushed.' }),
    failed: count.openapi({ description: 'Since the queue was made or flushed.' }),
    cancelled: count.openapi({ description: 'Since the queue was made or flushed.' }),
    completed_per_second: z.number().nonnegative().openapi({ description: 'Over the last 60 seconds.' }),
    failure_rate: z.number().min(0).max(1).openapi({
      description: 'Failed attempts of all attempts that ended in the last 60 seconds.',
    }),
    recently_dead: count.openapi({ description: 'Dead letters added in the last 5 minutes.' }),
    oldest_waiting_ms: durationMs.nullable().openapi({ description: 'Of the jobs that may be claimed.' }),
    workers_alive: count,
    paused: z.boolean(),
    alerts: z.array(alert).openapi({ description: 'What to look at now, by the thresholds ALERT_*.' }),
  })
  .openapi('QueueStats');

export const jobList = z.object({ jobs: z.array(jobView), count }).openapi('JobList');

export const cleanupReport = z
  .object({
    checked: count.openapi({ description: 'Jobs that were looked at.' }),
    recovered: count.openapi({ description: 'Jobs whose lease had run out and that wait again.' }),
    poisoned: count.openapi({
      description: 'Jobs that ended their worker too often and are now dead letters.',
    }),
    mended: count.openapi({ description: 'Jobs that were in no place, in several or in the wrong one.' }),
  })
  .openapi('CleanupReport');

export const pausedState = z.object({ paused: z.boolean() }).openapi('PausedState');

export const worker = z
  .object({
    id: z.string(),
    host: z.string(),
    pid: count,
    state: z.enum(['starting', 'loading', 'idle', 'working', 'draining']),
    model: z.string(),
    concurrency: count,
    in_flight: count,
    done: count,
    failed: count,
    images_per_second: z.number().nonnegative().openapi({ description: 'Over the last 30 seconds.' }),
    memory_bytes: count,
    uptime_ms: durationMs,
    last_seen_ms: durationMs.openapi({ description: 'Since its last heartbeat.' }),
  })
  .openapi('Worker');

export const workerList = z.object({ workers: z.array(worker), count }).openapi('WorkerList');

export const removedJobs = z.object({ removed: count }).openapi('RemovedJobs');
