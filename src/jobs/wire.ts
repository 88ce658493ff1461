import type { z } from '@hono/zod-openapi';
import type { JobError } from '../queue/job.ts';
import type { AttemptRecord, CleanupReport, EnqueuedJob, JobView, QueueStats } from '../queue/port.ts';
import type { SeenWorker } from '../queue/worker-registry.ts';
import type { payload, productView, searchReply, WireSearchFilter } from '../search/schemas.ts';
import type { Hit, PointPayload, StoredPoint } from '../vectors/port.ts';
import type { SearchFilter } from '../vectors/search-filter.ts';
import { type Alert, toPending } from './alerts.ts';
import type { enqueuedJob, jobView } from './job-view.ts';
import type { cleanupReport, queueStats, worker } from './queue-schemas.ts';

// The one place where the code's camelCase meets the wire's snake_case. Field by field: what is new in a view
// reaches clients only when it is named here and in a schema.

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
    product_id: job.productId,
    image_id: job.imageId,
    status: job.status,
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
    result:
      job.result === null
        ? null
        : { point_id: job.result.pointId, collection: job.result.collection, model: job.result.model },
    cancel_requested: job.cancelRequested,
    history: job.history.map(toWireAttempt),
  };
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
  workersAlive: number,
  alerts: readonly Alert[],
): z.input<typeof queueStats> {
  return {
    waiting: { ...stats.waiting },
    delayed: stats.delayed,
    processing: stats.processing,
    dead: stats.dead,
    total_pending: toPending(stats),
    spooled: stats.spooled ?? 0,
    completed: stats.completed,
    failed: stats.failed,
    cancelled: stats.cancelled,
    completed_per_second: stats.completedPerSecond,
    failure_rate: stats.failureRate,
    recently_dead: stats.recentlyDead,
    oldest_waiting_ms: stats.oldestWaitingMs,
    workers_alive: workersAlive,
    paused: stats.paused,
    alerts: alerts.map((alert) => ({ ...alert })),
  };
}

export function toWireCleanup(report: CleanupReport): z.input<typeof cleanupReport> {
  const { checked, recovered, poisoned, mended } = report;
  return { checked, recovered, poisoned, mended };
}

export function toWireWorker(seen: SeenWorker): z.input<typeof worker> {
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

export function toWireHit(hit: Hit): z.input<typeof searchReply>['hits'][number] {
  const { productId, imageId } = hit.payload;
  return { product_id: productId, image_id: imageId, score: hit.score, payload: toWirePayload(hit.payload) };
}

export function toWireProduct(
  productId: string,
  points: readonly StoredPoint[],
): z.input<typeof productView> {
  return {
    product_id: productId,
    images: points.map((point) => ({
      image_id: point.payload.imageId,
      point_id: point.id,
      payload: toWirePayload(point.payload),
    })),
  };
}

function toWirePayload(point: PointPayload): z.input<typeof payload> {
  const { productId: _, imageId: __, indexedAt, tags, ...rest } = point;
  return { ...rest, ...(tags === undefined ? {} : { tags: [...tags] }), indexed_at: toInstant(indexedAt) };
}

/** And the one value that goes the other way as a whole. */
export function toSearchFilter(filter: WireSearchFilter): SearchFilter {
  const { product_id: productId, image_id: imageId, ...same } = filter;
  const named = { ...same, productId, imageId };
  return Object.fromEntries(Object.entries(named).filter(([, value]) => value !== undefined));
}
