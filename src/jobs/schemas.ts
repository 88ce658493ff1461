import { z } from '@hono/zod-openapi';
import { JOB_STATUSES, OUTCOMES, PRIORITIES, STAGES } from '../queue/job.ts';
import type { WorkerState } from '../queue/port.ts';
import {
  callbackUrl,
  count,
  durationMs,
  exactlyOne,
  imageFields,
  imageId,
  instant,
  notBoth,
  productFields,
  productId,
} from '../routing/schemas.ts';

const YEAR_SECONDS = 31_536_000;
const DAY_MS = 86_400_000;

// Requests

const fields = {
  product_id: productId,
  image_id: imageId.default('main'),
  ...productFields,
  priority: z.enum(PRIORITIES).default('normal'),
  version: z.int().nonnegative().optional().openapi({
    description: 'Orders the states of one product image; without it, the order of enqueueing decides.',
  }),
  delay_seconds: z.number().nonnegative().max(YEAR_SECONDS).optional().openapi({
    description: 'Not before so many seconds from now. Not together with run_at.',
  }),
  run_at: instant
    .optional()
    .openapi({ description: 'Not before this instant. Not together with delay_seconds.' }),
  callback_url: callbackUrl.optional(),
  retry: z
    .strictObject({
      attempts: z
        .int()
        .min(1)
        .max(100)
        .optional()
        .openapi({ description: 'In all, the first one included.' }),
      base_ms: z.int().nonnegative().max(DAY_MS).optional(),
      factor: z.number().min(1).max(10).optional(),
      cap_ms: z.int().nonnegative().max(DAY_MS).optional(),
      jitter: z.number().min(0).max(1).optional(),
    })
    .optional()
    .openapi({ description: 'What differs from the settings RETRY_*.' }),
  soft_timeout_ms: z.int().min(100).max(DAY_MS).optional().openapi({
    description: 'An attempt that takes longer is stopped and retried.',
  }),
  hard_timeout_ms: z
    .int()
    .min(1000)
    .max(7 * DAY_MS)
    .optional()
    .openapi({
      description: 'A job that takes longer, all attempts together, fails.',
    }),
};

const SOURCES = ['image_url', 'image_path', 'image_base64'];
const oneSource = exactlyOne(SOURCES);
const oneTime = notBoth('delay_seconds', 'run_at');

/** One image job as JSON. */
export const jobRequest = z
  .strictObject({ ...fields, ...imageFields })
  .refine(...oneSource)
  .refine(...oneTime)
  .openapi('JobRequest', { oneOf: SOURCES.map((name) => ({ required: [name] })) });

/** The fields of a form, whose image comes as a file; `parseForm` reads them as JSON would have them. */
export const jobFields = z.strictObject(fields).refine(...oneTime);

/** The form as it is sent, for the document alone. */
export const jobForm = z
  .strictObject({
    ...fields,
    image: z.string().openapi({ format: 'binary', description: 'The image file.' }),
    tags: z.array(z.string()).max(100).optional().openapi({ description: 'Repeat the field for several.' }),
    metadata: z.string().optional().openapi({ description: 'A JSON object.' }),
    retry: z.string().optional().openapi({ description: 'A JSON object, as in JobRequest.' }),
  })
  .openapi('JobForm');

export const MAX_BATCH_JOBS = 10_000;

/** For the document alone: the jobs of a batch are parsed one by one, so that the good ones are accepted. */
export const jobBatch = z.array(jobRequest).min(1).max(MAX_BATCH_JOBS).openapi('JobBatch');

/** As text of either case; stored in lower case. */
export const jobId = z.uuid().toLowerCase().openapi({ example: '0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b' });

const errorCode = z
  .string()
  .min(1)
  .max(100)
  .openapi({ description: 'An error code.', example: 'image_not_found' });
const pageLimit = z.coerce.number().int().min(1).max(1000).default(100);
const MAX_SELECTED_IDS = 10_000;

export const activeQuery = z.strictObject({ limit: pageLimit });

const pageCursor = z
  .string()
  .min(1)
  .max(500)
  .optional()
  .openapi({ description: '`next_cursor` of the last page.' });

export const jobsQuery = z
  .strictObject({
    status: z.enum(JOB_STATUSES).optional(),
    product_id: productId.optional(),
    code: errorCode.optional().openapi({ description: 'Of failed jobs: their last error.' }),
    limit: pageLimit,
    cursor: pageCursor,
  })
  .superRefine(({ status, product_id: product, code, cursor }, { addIssue }) => {
    const fault = (field: string, message: string) => addIssue({ code: 'custom', path: [field], message });
    if (code !== undefined && status !== 'failed') fault('code', 'needs status=failed');
    if (code !== undefined && product !== undefined) fault('code', "can't be set together with product_id");
    if (cursor !== undefined && product !== undefined) fault('cursor', 'jobs of a product come on one page');
  });

export const deadQuery = z.strictObject({
  code: errorCode.optional(),
  limit: pageLimit,
  cursor: pageCursor,
});

export const exportQuery = z.strictObject({ code: errorCode.optional() });

const SELECTIONS = ['ids', 'code', 'all'];

/** Which dead letters are meant: exactly one of the three, so that a missing field never means all of them. */
const deadSelection = z
  .strictObject({
    ids: z.array(jobId).min(1).max(MAX_SELECTED_IDS).optional(),
    code: errorCode.optional(),
    all: z.literal(true).optional(),
  })
  .refine(...exactlyOne(SELECTIONS));

const oneSelection = { oneOf: SELECTIONS.map((name) => ({ required: [name] })) };
export const redriveRequest = deadSelection.openapi('RedriveRequest', oneSelection);
export const purgeRequest = deadSelection.openapi('PurgeRequest', oneSelection);

export const purgeQuery = z.strictObject({
  id: z
    .union([jobId.transform((id) => [id]), z.array(jobId).min(1).max(1000)])
    .optional()
    .openapi({
      type: 'array',
      items: { type: 'string', format: 'uuid' },
      description: 'Repeat it for several.',
    }),
  code: errorCode.optional(),
  all: z.literal('true').optional(),
});

// Replies

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
      description: 'True when the queue is unreachable, and the job was kept durably to be forwarded.',
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

const jobError = z
  .object({ code: z.string(), message: z.string(), suggestion: z.string() })
  .openapi('JobError');

export const attempt = z.object({
  started_at: instant,
  ended_at: instant,
  worker_id: z.string().nullable(),
  outcome: z.enum(['completed', 'retried', 'failed', 'released', 'deferred', 'cancelled', 'crashed']),
  error: jobError.nullable(),
});

const jobResult = z.object({
  outcome: z.enum(OUTCOMES).openapi({
    description:
      '`indexed`: its point is stored. `unchanged`: an earlier delivery of the job had stored it. `superseded`: a newer version is stored. `deleted`: its product was deleted after it was enqueued.',
  }),
  point_id: z.string(),
  collection: z.string(),
  model: z.string(),
});

export const jobView = z
  .object({
    job_id: jobId,
    kind: z.enum(['image', 'delivery']).openapi({
      description: '`delivery`: it reports the end of a job of this image to a callback address.',
    }),
    product_id: z.string(),
    image_id: z.string(),
    status: z.enum(JOB_STATUSES).openapi({ description: '`failed`: it is in the dead-letter queue.' }),
    stage: z.enum(STAGES).nullable().openapi({
      description:
        'What its worker is doing for it, as of the last renewal of its lease; null unless it runs.',
    }),
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
    worker_id: z.string().nullable().openapi({
      description: 'Null unless a worker has it, and for keys without the scope `read`.',
    }),
    last_error: jobError.nullable(),
    result: jobResult.nullable(),
    cancel_requested: z.boolean(),
    history: z.array(attempt).openapi({ description: 'The last ten attempts, oldest first.' }),
  })
  .openapi('Job');

export const jobList = z.object({ jobs: z.array(jobView), count }).openapi('JobList');

export const jobPage = z
  .object({
    jobs: z.array(jobView),
    next_cursor: z.string().nullable().openapi({ description: 'Null on the last page.' }),
    total: count,
  })
  .openapi('JobPage');

export const redrivenJobs = z.object({ redriven: count }).openapi('RedrivenJobs');

export const removedJobs = z.object({ removed: count }).openapi('RemovedJobs');

export const pausedState = z.object({ paused: z.boolean() }).openapi('PausedState');

export const cleanupReport = z
  .object({
    checked: count.openapi({ description: 'Jobs that were looked at.' }),
    recovered: count.openapi({ description: 'Jobs whose lease had run out and that wait again.' }),
    poisoned: count.openapi({
      description: 'Jobs that ended their worker too often and are now dead letters.',
    }),
    repaired: count.openapi({ description: 'Jobs that were in no place, in several or in the wrong one.' }),
  })
  .openapi('CleanupReport');

const WORKER_STATES = ['starting', 'loading', 'idle', 'working', 'draining'] as const;
const workerState = z.enum(WORKER_STATES satisfies readonly WorkerState[]);

export const worker = z
  .object({
    id: z.string(),
    host: z.string(),
    pid: count,
    state: workerState,
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

export const ALERTS = [
  'backlog',
  'oldest_waiting',
  'no_workers',
  'failure_rate',
  'dead_letters',
  'dead_letters_dropped',
] as const;

const alert = z.object({
  code: z.enum(ALERTS),
  message: z.string(),
  value: z.number(),
  threshold: z.number(),
});

const pausedHost = z.object({
  host: z.string(),
  waiting: count.openapi({ description: 'Jobs that wait for it.' }),
  next_in_ms: durationMs.openapi({ description: 'Until its next job may be claimed.' }),
  per_second: z.number().nonnegative().openapi({ description: 'How fast its jobs are claimed then.' }),
});

export const queueStats = z
  .object({
    queue_size: count.openapi({ description: 'All that are waiting, whatever their priority.' }),
    waiting: z.record(z.enum(PRIORITIES), count),
    delayed: count,
    processing: count,
    dead: count.openapi({ description: 'Jobs in the dead-letter queue now.' }),
    total_pending: count.openapi({
      description: 'waiting + delayed + processing',
    }),
    spooled: count.openapi({
      description: 'Accepted while the queue was unreachable, and not forwarded yet.',
    }),
    completed: count.openapi({ description: 'Since the queue was made or flushed.' }),
    failed: count.openapi({ description: 'Since the queue was made or flushed.' }),
    cancelled: count.openapi({ description: 'Since the queue was made or flushed.' }),
    dead_dropped: count.openapi({
      description: 'Dead letters that were dropped because there were more than MAX_DEAD.',
    }),
    completed_per_second: z.number().nonnegative().openapi({ description: 'Over the last 60 seconds.' }),
    failure_rate: z.number().min(0).max(1).openapi({
      description: 'Failed attempts of all attempts that ended in the last 60 seconds.',
    }),
    processing_ms: z
      .object({ p50: durationMs, p95: durationMs })
      .nullable()
      .openapi({ description: 'Of the last thousand jobs that completed; null before the first.' }),
    recently_dead: count.openapi({ description: 'Dead letters added in the last 5 minutes.' }),
    oldest_waiting_ms: durationMs.nullable().openapi({ description: 'Of the jobs that may be claimed.' }),
    workers_alive: count,
    workers: z.record(workerState, count).openapi({ description: 'How many are in each state.' }),
    hosts: z.array(pausedHost).openapi({
      description:
        'Hosts that asked to slow down; at most 20, the one with the most jobs first. `webhook:` stands before receivers of webhooks.',
    }),
    paused: z.boolean(),
    alerts: z.array(alert).openapi({ description: 'What to look at now, by the thresholds ALERT_*.' }),
  })
  .openapi('QueueStats');
