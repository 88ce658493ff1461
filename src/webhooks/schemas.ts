import { z } from '@hono/zod-openapi';
import { attempt, jobId, jobView } from '../jobs/schemas.ts';
import { JOB_STATUSES } from '../queue/job.ts';
import { count, instant } from '../routing/schemas.ts';

const ENDS = ['completed', 'failed', 'cancelled'] as const;
const eventType = z.enum(['job.completed', 'job.failed', 'job.cancelled']);

export const webhookEvent = z
  .object({
    type: eventType,
    timestamp: instant.openapi({ description: 'When the job ended.' }),
    data: jobView
      .omit({ worker_id: true })
      .extend({ status: z.enum(ENDS), history: z.array(attempt.omit({ worker_id: true })) })
      .openapi({ description: 'The job as it ended, without the names of workers.' }),
  })
  .openapi('WebhookEvent');

export const deliveriesQuery = z.strictObject({
  limit: z.coerce.number().int().min(1).max(1000).default(100),
  cursor: z.string().min(1).max(500).optional().openapi({ description: '`next_cursor` of the last page.' }),
});

const delivery = z
  .object({
    delivery_id: jobId.openapi({
      description: 'Its `webhook-id`, and its id as a job: it can be cancelled and retried.',
    }),
    job_id: z.string().openapi({ description: 'The job that ended.' }),
    type: eventType,
    url: z.string().openapi({ description: 'The callback address without its query.' }),
    status: z.enum(JOB_STATUSES).openapi({
      description: '`completed`: the receiver answered 2xx. `failed`: it is in the dead-letter queue.',
    }),
    attempts: count,
    max_attempts: count,
    created_at: instant,
    next_attempt_at: instant.nullable(),
    ended_at: instant.nullable(),
    last_answer: z
      .object({
        at: instant,
        code: z.string().nullable().openapi({ description: 'Null when it was delivered.' }),
        message: z.string().openapi({ example: 'hooks.example.com answered 500.' }),
      })
      .nullable(),
  })
  .openapi('Delivery');

export const deliveryPage = z
  .object({
    deliveries: z.array(delivery),
    next_cursor: z.string().nullable().openapi({ description: 'Null on the last page.' }),
    total: count,
  })
  .openapi('DeliveryPage');
