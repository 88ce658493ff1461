import { z } from '@hono/zod-openapi';
import { JOB_STATUSES, PRIORITIES } from '../queue/job.ts';
import { count, durationMs, instant } from '../routing/schemas.ts';

export const jobId = z.uuid().openapi({ example: '0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b' });

export const enqueuedJob = z
  .object({
    job_id: jobId,
    status: z.enum(JOB_STATUSES),
    position: z.int().positive().nullable().openapi({
      description: 'How many jobs are claimed before it, plus one; null unless it is queued.',
    }),
    status_url: z.string().openapi({ example: '/queue/status/0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b' }),
    replaced: z.boolean().openapi({
      description: 'True when a waiting job of the same product image now carries this data.',
    }),
    superseded: z.boolean().openapi({
      description:
        'True when a waiting or running job carries a newer version, so that this data was dropped.',
    }),
    spooled: z.boolean().openapi({
      description: 'True when the queue is away, and the job was kept durably to be forwarded.',
    }),
    version: z.number().nullable().openapi({ description: 'Null while the job is spooled.' }),
  })
  .openapi('EnqueuedJob');

export const batchReply = z
  .object({
    accepted: count,
    job_ids: z.array(jobId).openapi({ description: 'Of the accepted jobs, in the order of the request.' }),
    rejected: z.array(
      z.object({
        index: count.openapi({ description: 'Place in the request, from 0.' }),
        code: z.string(),
        detail: z.string(),
      }),
    ),
  })
  .openapi('BatchReply');

export const jobError = z
  .object({ code: z.string(), message: z.string(), suggestion: z.string() })
  .openapi('JobError');

const attempt = z.object({
  started_at: instant,
  ended_at: instant,
  worker_id: z.string(),
  outcome: z.enum(['completed', 'retried', 'failed', 'released', 'cancelled', 'crashed']),
  error: jobError.nullable(),
});

export const jobView = z
  .object({
    job_id: jobId,
    product_id: z.string(),
    image_id: z.string(),
    status: z.enum(JOB_STATUSES).openapi({ description: '`failed`: it is in the dead letter.' }),
    priority: z.enum(PRIORITIES),
    version: z.number().nullable().openapi({ description: 'Null while the job is spooled.' }),
    position: z.int().positive().nullable(),
    eta_ms: durationMs.nullable().openapi({ description: 'Estimated wait until it is claimed.' }),
    attempts: count,
    max_attempts: count,
    crashes: count.openapi({ description: 'How often a worker ended while it held the job.' }),
    enqueued_at: instant,
    available_at: instant.nullable().openapi({ description: 'When a delayed job may be claimed.' }),
    started_at: instant.nullable(),
    ended_at: instant.nullable(),
    processing_ms: durationMs.nullable(),
    worker_id: z.string().nullable(),
    last_error: jobError.nullable(),
    result: z.object({ point_id: z.string(), collection: z.string(), model: z.string() }).nullable(),
    cancel_requested: z.boolean(),
    history: z.array(attempt).openapi({ description: 'The last ten attempts, oldest first.' }),
  })
  .openapi('Job');
