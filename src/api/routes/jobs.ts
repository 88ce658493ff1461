import { createRoute, z } from '@hono/zod-openapi';
import type { Context as HonoContext } from 'hono';
import { v7 as uuidv7 } from 'uuid';
import type { Context } from '../../context.ts';
import { VitrineError } from '../../domain/errors.ts';
import type { NewJob } from '../../ports/job-queue.ts';
import { readForm, readJson, readLines, toBodyKind } from '../body.ts';
import { type Batch, createBatch } from '../enqueue-batch.ts';
import { invalidRequest, parseWith } from '../faults.ts';
import { parseForm } from '../forms.ts';
import { toFileRef, toImageRef } from '../image-ref.ts';
import { decodeUtf8, parseJson } from '../json.ts';
import { toBodyLimits } from '../limits.ts';
import { problems } from '../problem.ts';
import { type ApiRouter, createRouter } from '../router.ts';
import { jobBatch, jobFields, jobForm, jobRequest, MAX_BATCH_JOBS } from '../schemas/job-request.ts';
import { batchReply, enqueuedJob, jobId, jobView } from '../schemas/job-view.ts';
import { toNewJob } from '../to-job.ts';
import { toWireEnqueued, toWireJob } from '../wire.ts';

const refusals = [
  'invalid_request',
  'invalid_json',
  'body_too_large',
  'unsupported_media_type',
  'queue_full',
  'queue_unavailable',
] as const;

const enqueueRoute = createRoute({
  method: 'post',
  path: '/queue/enqueue',
  tags: ['Jobs'],
  summary: 'Enqueue one product image',
  description:
    'After the reply the job is stored durably. A waiting job of the same product image is replaced by this one.',
  request: {
    body: {
      required: true,
      content: {
        'application/json': { schema: { $ref: '#/components/schemas/JobRequest' } },
        'multipart/form-data': { schema: { $ref: '#/components/schemas/JobForm' } },
      },
    },
  },
  responses: {
    202: { description: 'Accepted', content: { 'application/json': { schema: enqueuedJob } } },
    ...problems(...refusals, 'image_too_large', 'image_path_forbidden'),
  },
});

const batchRoute = createRoute({
  method: 'post',
  path: '/queue/enqueue/batch',
  tags: ['Jobs'],
  summary: `Enqueue up to ${MAX_BATCH_JOBS} product images`,
  description:
    'A JSON array, or NDJSON with one job a line. Good jobs are accepted, bad ones reported by their index from 0. Nothing is stored before the whole body has arrived.',
  request: {
    body: {
      required: true,
      content: {
        'application/json': { schema: { $ref: '#/components/schemas/JobBatch' } },
        'application/x-ndjson': { schema: { $ref: '#/components/schemas/JobRequest' } },
      },
    },
  },
  responses: {
    202: { description: 'Accepted', content: { 'application/json': { schema: batchReply } } },
    ...problems(...refusals),
  },
});

const statusRoute = createRoute({
  method: 'get',
  path: '/queue/status/{job_id}',
  tags: ['Jobs'],
  summary: 'The state of a job',
  description: 'Kept for 24 hours after the job has ended.',
  request: { params: z.object({ job_id: jobId }) },
  responses: {
    200: { description: 'The job', content: { 'application/json': { schema: jobView } } },
    ...problems('invalid_request', 'job_not_found', 'queue_unavailable'),
  },
});

const JOB_FIELDS = Object.keys(jobRequest.shape);

export function createJobRoutes({ config, queue }: Context): ApiRouter {
  const routes = createRouter();
  const limits = toBodyLimits(config);
  for (const [name, schema] of Object.entries({
    JobRequest: jobRequest,
    JobForm: jobForm,
    JobBatch: jobBatch,
  })) {
    routes.openAPIRegistry.register(name, schema);
  }

  function parseJob(value: unknown): NewJob {
    const request = parseWith(jobRequest, value, JOB_FIELDS);
    return toNewJob(request, toImageRef(request, config), uuidv7(), config);
  }

  routes.openapi(enqueueRoute, async (c) => {
    const job =
      toBodyKind(c, ['json', 'form']) === 'json'
        ? parseJob(await readJson(c, limits.json))
        : await readJobForm(c);
    const [enqueued] = await queue.enqueue([job]);
    if (enqueued === undefined) throw new VitrineError('internal_error', 'The queue gave no answer.');
    const reply = toWireEnqueued(enqueued);
    return c.json(reply, 202, { Location: reply.status_url });
  });

  async function readJobForm(c: HonoContext): Promise<NewJob> {
    const { file, fields } = parseForm(await readForm(c, limits.form));
    const request = parseWith(jobFields, fields, JOB_FIELDS);
    return toNewJob(request, await toFileRef(file, config), uuidv7(), config);
  }

  routes.openapi(batchRoute, async (c) => {
    const batch = createBatch();
    if (toBodyKind(c, ['json', 'ndjson']) === 'json') await readArray(c, batch);
    else await readNdjson(c, batch);
    if (batch.size() === 0) throw invalidRequest([{ path: '', message: 'must have at least 1 job' }]);
    const { jobIds, rejected } = await batch.enqueue(queue);
    return c.json({ accepted: jobIds.length, job_ids: [...jobIds], rejected: [...rejected] }, 202);
  });

  async function readArray(c: HonoContext, batch: Batch): Promise<void> {
    const body = await readJson(c, limits.batch);
    if (!Array.isArray(body)) throw invalidRequest([{ path: '', message: 'must be a list of jobs' }]);
    for (const value of body) addJob(batch, () => parseJob(value));
  }

  async function readNdjson(c: HonoContext, batch: Batch): Promise<void> {
    const lines = readLines(c, { maxBytes: limits.batch, maxLineBytes: limits.json });
    for await (const line of lines) addJob(batch, () => parseJob(parseJson(decodeUtf8(line))));
  }

  routes.openapi(statusRoute, async (c) => {
    const job = await queue.status(c.req.valid('param').job_id);
    if (job === null) throw new VitrineError('job_not_found', 'No job has this id.');
    return c.json(toWireJob(job), 200);
  });

  return routes;
}

function addJob(batch: Batch, make: () => NewJob): void {
  if (batch.size() === MAX_BATCH_JOBS) {
    throw new VitrineError('body_too_large', `A batch has at most ${MAX_BATCH_JOBS} jobs.`);
  }
  batch.add(make);
}
