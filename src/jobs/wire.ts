import type { z } from '@hono/zod-openapi';
import type { JobError, JobResult } from '../queue/job.ts';
import type {
  AttemptRecord,
  CleanupReport,
  EnqueuedJob,
  HostPause,
  JobView,
  QueueStats,
  SeenWorker,
} from '../queue/port.ts';
import { type Alert, toPending, toWaiting } from './alerts.ts';
import type { cleanupReport, enqueuedJob, jobView, queueStats, worker, workerList } from './schemas.ts';

// Where the code's camelCase becomes the wire's snake_case. Field by field: what is new in a view reaches clients
// only when it is named here and in a schema.

const toInstant = (epochMs: number): string => new Date(epochMs).toISOString();
const toOptionalInstant = (epochMs: number | null): string | null =>
  epochMs === null ? null : toInstant(epochMs);

export function toWireEnqueued(job: EnqueuedJob): z.input<typeof enqueuedJob> {
  return {
    job_id: job.id,
    status: job.status,
    position: job.position,
    status_url: `/queue/status/${job.id}`,
    replaced: job.replaced,
    superseded: job.superseded,
    spooled: job.spooled ?? false,
    version: job.version,
  };
}

export function toWireJob(job: JobView): z.input<typeof jobView> {
  return {
    job_id: job.id,
    kind: job.delivery === null ? 'image' : 'delivery',
    product_id: job.productId,
    image_id: job.imageId,
    status: job.status,
    stage: job.stage,
    priority: job.priority,
    version: job.version,
    position: job.position,
    eta_ms: job.etaMs,
    attempts: job.attempts,
    max_attempts: job.maxAttempts,
    crashes: job.crashes,
    enqueued_at: toInstant(job.enqueuedAt),
    available_at: toOptionalInstant(job.availableAt),
    started_at: toOptionalInstant(job.startedAt),
    ended_at: toOptionalInstant(job.endedAt),
    processing_ms: job.processingMs,
    worker_id: job.workerId,
    last_error: toWireJobError(job.lastError),
    result: toWireResult(job.result),
    cancel_requested: job.cancelRequested,
    history: job.history.map(toWireAttempt),
  };
}

/** Null for a delivery: its list says what came of it. */
function toWireResult(result: JobResult | null): z.input<typeof jobView>['result'] {
  if (result === null || result.outcome === 'delivered') return null;
  const { outcome, pointId, collection, model } = result;
  return { outcome, point_id: pointId, collection, model };
}

type WireJob = z.input<typeof jobView>;

/** The job for keys that may not see workers, whose ids hold the names of their hosts. */
export function hideWorkers(job: WireJob): WireJob {
  const history = job.history.map((attempt) => ({ ...attempt, worker_id: null }));
  return { ...job, worker_id: null, history };
}

function toWireJobError(error: JobError | null | undefined): z.input<typeof jobView>['last_error'] {
  if (error === null || error === undefined) return null;
  return { code: error.code, message: error.message, suggestion: error.suggestion };
}

function toWireAttempt(attempt: AttemptRecord): z.input<typeof jobView>['history'][number] {
  return {
    started_at: toInstant(attempt.startedAt),
    ended_at: toInstant(attempt.endedAt),
    worker_id: attempt.workerId,
    outcome: attempt.outcome,
    error: toWireJobError(attempt.error),
  };
}

export function toWireStats(
  stats: QueueStats,
  workers: readonly SeenWorker[],
  alerts: readonly Alert[],
): z.input<typeof queueStats> {
  return {
    queue_size: toWaiting(stats),
    waiting: { ...stats.waiting },
    delayed: stats.delayed,
    processing: stats.processing,
    dead: stats.dead,
    total_pending: toPending(stats),
    spooled: stats.spooled ?? 0,
    completed: stats.completed,
    failed: stats.failed,
    cancelled: stats.cancelled,
    dead_dropped: stats.deadDropped,
    completed_per_second: stats.completedPerSecond,
    failure_rate: stats.failureRate,
    processing_ms: stats.processingMs && { p50: stats.processingMs.p50, p95: stats.processingMs.p95 },
    recently_dead: stats.recentlyDead,
    oldest_waiting_ms: stats.oldestWaitingMs,
    workers_alive: workers.length,
    workers: toWireStates(workers),
    hosts: stats.hosts.map(toWireHost),
    paused: stats.paused,
    alerts: alerts.map((alert) => ({ ...alert })),
  };
}

function toWireStates(workers: readonly SeenWorker[]): z.input<typeof queueStats>['workers'] {
  const states = { starting: 0, loading: 0, idle: 0, working: 0, draining: 0 };
  for (const { state } of workers) states[state]++;
  return states;
}

function toWireHost(host: HostPause): z.input<typeof queueStats>['hosts'][number] {
  return {
    host: host.host,
    waiting: host.waiting,
    next_in_ms: host.nextInMs,
    per_second: host.perSecond,
  };
}

export function toWireCleanup(report: CleanupReport): z.input<typeof cleanupReport> {
  const { checked, recovered, poisoned, repaired } = report;
  return { checked, recovered, poisoned, repaired };
}

export function toWireWorkers(workers: readonly SeenWorker[]): z.input<typeof workerList> {
  return { workers: workers.map(toWireWorker), count: workers.length };
}

function toWireWorker(seen: SeenWorker): z.input<typeof worker> {
  return {
    id: seen.id,
    host: seen.host,
    pid: seen.pid,
    state: seen.state,
    model: seen.model,
    concurrency: seen.concurrency,
    in_flight: seen.inFlight,
    done: seen.done,
    failed: seen.failed,
    images_per_second: seen.imagesPerSecond,
    memory_bytes: seen.memoryBytes,
    uptime_ms: seen.uptimeMs,
    last_seen_ms: seen.lastSeenMs,
  };
}
