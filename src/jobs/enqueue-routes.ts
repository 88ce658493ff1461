import { createRoute, z } from '@hono/zod-openapi';
import type { Context } from 'hono';
import pLimit from 'p-limit';
import type { Config } from '../config/config.ts';
import { VitrineError } from '../errors/vitrine-error.ts';
import type { Clock } from '../observability/clock.ts';
import type { JobQueue } from '../queue/port.ts';
import { limitBody, toBodyBytes } from '../routing/body.ts';
import { parseWith } from '../routing/faults.ts';
import { problems } from '../routing/problem.ts';
import { type ApiRouter, addBodyRoute, createRouter } from '../routing/router.ts';
import { type BatchBody, enqueueAll, parseBatch, readBatchBody, toRejection } from './batch.ts';
import { recallRequest } from './idempotency.ts';
import { readJobRequest, toNewJob } from './job-request.ts';
import {
  batchReply,
  enqueuedJob,
  jobBatch,
  jobForm,
  jobRequest,
  jobView,
  MAX_BATCH_JOBS,
} from './schemas.ts';
import { toWaitSeconds, waitForEnd } from './wait.ts';
import { hideWorkers, toWireEnqueued, toWireJob } from './wire.ts';

export interface EnqueueParts {
  readonly config: Pick<Config, 'images' | 'queue' | 'webhooks'>;
  readonly clock: Clock;
  readonly queue: Pick<JobQueue, 'enqueue' | 'status' | 'remember' | 'recall'>;
  /** Aborted when the server is being stopped: nobody is kept waiting for the end of a job then. */
  readonly stopping: AbortSignal;
}

/** A batch is held in memory as a whole. */
const MIN_BATCH_BYTES = 67_108_864;

/** Batches that are held in memory in parsed form at the same time: each may take 250 MB. */
const PARSED_BATCHES = 2;

const keyHeader = z.object({
  'idempotency-key': z
    .string()
    .regex(/^[\x21-\x7e]{1,255}$/, { error: 'must be 1 to 255 visible ASCII characters' })
    .optional()
    .openapi({
      description: 'Within 24 hours the same key with the same jobs gets the first answer again.',
    }),
});

/** @throws VitrineError `invalid_request` */
const readKey = (c: Context): string | undefined =>
  parseWith(keyHeader, { 'idempotency-key': c.req.header('idempotency-key') })['idempotency-key'];

const refusals = [
  'invalid_request',
  'invalid_json',
  'body_too_large',
  'server_busy',
  'unsupported_media_type',
  'idempotency_conflict',
  'queue_full',
  'queue_unavailable',
  'queue_unsafe',
] as const;

const enqueueRoute = createRoute({
  method: 'post',
  path: '/queue/enqueue',
  tags: ['Jobs'],
  summary: 'Enqueue one product image',
  description:
    'After the reply the job is stored durably. A waiting job of the same product image is replaced by this one; a running one gets this one as its follow-up.',
  request: {
    headers: keyHeader.extend({
      prefer: z.string().optional().openapi({
        description: '`wait=N` waits for the end of the job, up to N seconds, 1 to 60 (RFC 7240).',
        example: 'wait=10',
      }),
    }),
    body: {
      required: true,
      content: {
        'application/json': { schema: jobRequest },
        'multipart/form-data': { schema: jobForm },
      },
    },
  },
  responses: {
    200: {
      description: 'It has ended within the preferred time',
      content: { 'application/json': { schema: jobView } },
    },
    202: { description: 'Accepted', content: { 'application/json': { schema: enqueuedJob } } },
    ...problems(
      ...refusals,
      'image_too_large',
      'image_path_forbidden',
      'webhooks_not_configured',
      'spool_full',
    ),
  },
});

const batchRoute = createRoute({
  method: 'post',
  path: '/queue/enqueue/batch',
  tags: ['Jobs'],
  summary: `Enqueue up to ${MAX_BATCH_JOBS} product images`,
  description:
    'A JSON array, or NDJSON with one job a line. Good jobs are accepted, bad ones reported by their index from 0. Nothing is stored before the whole body has arrived. Where the queue takes no more in the middle, the rest is rejected with its reason, to be sent again. The body may be compressed: Content-Encoding: gzip.',
  request: {
    headers: keyHeader,
    body: {
      required: true,
      content: {
        'application/json': { schema: jobBatch },
        'application/x-ndjson': { schema: jobRequest },
      },
    },
  },
  responses: {
    202: { description: 'Accepted', content: { 'application/json': { schema: batchReply } } },
    ...problems(...refusals, 'spool_full'),
  },
});

export function createEnqueueRoutes({ config, clock, queue, stopping }: EnqueueParts): ApiRouter {
  const routes = createRouter();
  const { images } = config;
  const { attempts } = config.queue.retry;
  const jobBytes = toBodyBytes(images.maxBytes);
  const inTurn = pLimit(PARSED_BATCHES);

  routes.use(enqueueRoute.path, limitBody(jobBytes));
  addBodyRoute(routes, enqueueRoute, async (c) => {
    const key = readKey(c);
    const request = await readJobRequest(c, config);
    const repetition = await recallRequest<z.input<typeof enqueuedJob>>(queue, key, ['one', request]);
    let { answer } = repetition;
    if (answer === null) {
      const [enqueued] = await queue.enqueue([toNewJob(request, repetition.idAt(0), attempts)]);
      if (enqueued === undefined) throw new VitrineError('internal_error', 'The queue gave no answer.');
      answer = toWireEnqueued(enqueued);
      await repetition.keep(answer);
    } else {
      c.header('Idempotency-Replayed', 'true');
    }
    c.header('Location', answer.status_url);

    const waitSeconds = toWaitSeconds(c.req.header('prefer'));
    if (waitSeconds === null) return c.json(answer, 202);

    c.header('Preference-Applied', `wait=${waitSeconds}`);
    const signal = AbortSignal.any([c.req.raw.signal, stopping]);
    const ended = await waitForEnd(queue, answer.job_id, waitSeconds * 1000, { clock, signal });
    if (ended === null) return c.json(answer, 202);
    const job = toWireJob(ended);
    return c.json(c.get('caller').scopes.has('read') ? job : hideWorkers(job), 200);
  });

  routes.use(batchRoute.path, limitBody(Math.max(MIN_BATCH_BYTES, jobBytes)));
  addBodyRoute(routes, batchRoute, async (c) => {
    const body = await readBatchBody(c);
    const key = readKey(c);
    const { answer, isRepeated } = await inTurn(() => enqueueBatch(body, key));
    if (isRepeated) c.header('Idempotency-Replayed', 'true');
    return c.json(answer, 202);
  });

  async function enqueueBatch(body: BatchBody, key: string | undefined) {
    const { accepted, rejected } = await parseBatch(body, config);
    const requests = accepted.map(({ request }) => request);
    const parts = ['batch', ...requests, ...rejected];
    const repetition = await recallRequest<z.input<typeof batchReply>>(queue, key, parts);
    if (repetition.answer !== null) return { answer: repetition.answer, isRepeated: true };

    const jobs = requests.map((request, index) => toNewJob(request, repetition.idAt(index), attempts));
    const { ids, stopped } = await enqueueAll(queue, jobs);
    const notStored =
      stopped === null ? [] : accepted.slice(ids.length).map(({ index }) => toRejection(index, stopped));
    const answer = {
      accepted: ids.length,
      job_ids: [...ids],
      rejected: [...rejected, ...notStored].toSorted((one, other) => one.index - other.index),
    };
    // A repetition of a request that was stored in part stores the rest.
    if (stopped === null) await repetition.keep(answer);
    return { answer, isRepeated: false };
  }

  return routes;
}
