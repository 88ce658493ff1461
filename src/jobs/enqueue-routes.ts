import { createRoute, z } from '@hono/zod-openapi';
import type { Context as HonoContext } from 'hono';
import type { Context } from '../context.ts';
import { VitrineError } from '../errors/vitrine-error.ts';
import { readForm, readJson, readLines, toBodyKind } from '../routing/body.ts';
import { invalidRequest, parseWith } from '../routing/faults.ts';
import { parseForm } from '../routing/forms.ts';
import { toFileRef, toImageRef } from '../routing/image-ref.ts';
import { decodeUtf8, parseJson } from '../routing/json.ts';
import { toBodyLimits } from '../routing/limits.ts';
import { problems } from '../routing/problem.ts';
import { type ApiRouter, createRouter } from '../routing/router.ts';
import { addToBatch, type Batch, createBatch, enqueueInChunks } from './enqueue-batch.ts';
import { enqueueOnce, type JobDraft } from './idempotency.ts';
import { jobBatch, jobFields, jobForm, jobRequest, MAX_BATCH_JOBS } from './job-request.ts';
import { batchReply, enqueuedJob } from './job-view.ts';
import { toJobDraft } from './to-job.ts';
import { toWireEnqueued } from './wire.ts';

const headers = z.object({
  'idempotency-key': z
    .string()
    .regex(/^[\x21-\x7e]{1,255}$/, { error: 'must be 1 to 255 visible ASCII characters' })
    .optional()
    .openapi({ description: 'Within 24 hours the same key with the same jobs gets the first answer again.' }),
});

const refusals = [
  'invalid_request',
  'invalid_json',
  'body_too_large',
  'unsupported_media_type',
  'idempotency_conflict',
  'queue_full',
  'queue_unavailable',
] as const;

const enqueueRoute = createRoute({
  method: 'post',
  path: '/queue/enqueue',
  tags: ['Jobs'],
  summary: 'Enqueue one product image',
  description:
    'After the reply the job is stored durably. A waiting job of the same product image is replaced by this one; a running one gets this one as its follow-up.',
  request: {
    headers,
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
    'A JSON array, or NDJSON with one job a line. Good jobs are accepted, bad ones reported by their index from 0. Nothing is stored before the whole body has arrived. Where the queue takes no more in the middle, the rest is rejected with its reason, to be sent again.',
  request: {
    headers,
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

const JOB_FIELDS = Object.keys(jobRequest.shape);

export function createEnqueueRoutes({ config, queue }: Context): ApiRouter {
  const routes = createRouter();
  const limits = toBodyLimits(config);
  for (const [name, schema] of Object.entries({
    JobRequest: jobRequest,
    JobForm: jobForm,
    JobBatch: jobBatch,
  })) {
    routes.openAPIRegistry.register(name, schema);
  }

  routes.openapi(enqueueRoute, async (c) => {
    const draft =
      toBodyKind(c, ['json', 'form']) === 'json'
        ? parseJob(await readJson(c, limits.json))
        : await readJobForm(c);
    const key = c.req.valid('header')['idempotency-key'];
    const { answer, replayed } = await enqueueOnce(queue, key, { route: 'one' }, [draft], async (jobs) => {
      const [enqueued] = await queue.enqueue(jobs);
      if (enqueued === undefined) throw new VitrineError('internal_error', 'The queue gave no answer.');
      return { answer: toWireEnqueued(enqueued), complete: true };
    });
    return c.json(answer, 202, { Location: answer.status_url, ...toReplayHeader(replayed) });
  });

  routes.openapi(batchRoute, async (c) => {
    const { good, rejected, size } =
      toBodyKind(c, ['json', 'ndjson']) === 'json' ? await readArray(c) : await readNdjson(c);
    if (size === 0) throw invalidRequest([{ path: '', message: 'must have at least 1 job' }]);
    const key = c.req.valid('header')['idempotency-key'];
    const drafts = good.map(({ draft }) => draft);
    const { answer, replayed } = await enqueueOnce(
      queue,
      key,
      { route: 'batch', rejected },
      drafts,
      async (jobs) => {
        const { ids, stopped } = await enqueueInChunks(queue, jobs);
        const rest = good.slice(ids.length).map(({ index }) => toRejection(index, stopped));
        const all = [...rejected, ...rest].toSorted((one, other) => one.index - other.index);
        const reply = { accepted: ids.length, job_ids: [...ids], rejected: all };
        return { answer: reply, complete: stopped === null };
      },
    );
    return c.json(answer, 202, toReplayHeader(replayed));
  });

  function parseJob(value: unknown): JobDraft {
    const request = parseWith(jobRequest, value, JOB_FIELDS);
    return toJobDraft(request, toImageRef(request, config), config);
  }

  async function readJobForm(c: HonoContext): Promise<JobDraft> {
    const { file, fields } = parseForm(await readForm(c, limits.form));
    const request = parseWith(jobFields, fields, JOB_FIELDS);
    return toJobDraft(request, await toFileRef(file, config), config);
  }

  async function readArray(c: HonoContext): Promise<Batch> {
    const body = await readJson(c, limits.batch);
    if (!Array.isArray(body)) throw invalidRequest([{ path: '', message: 'must be a list of jobs' }]);
    const batch = createBatch();
    for (const value of body) addToBatch(batch, MAX_BATCH_JOBS, () => parseJob(value));
    return batch;
  }

  async function readNdjson(c: HonoContext): Promise<Batch> {
    const batch = createBatch();
    const lines = readLines(c, { maxBytes: limits.batch, maxLineBytes: limits.json });
    for await (const line of lines)
      addToBatch(batch, MAX_BATCH_JOBS, () => parseJob(parseJson(decodeUtf8(line))));
    return batch;
  }

  return routes;
}

function toRejection(index: number, stopped: VitrineError | null) {
  const { code, message } = stopped ?? new VitrineError('internal_error', 'The queue gave no answer.');
  return { index, code, detail: message };
}

const toReplayHeader = (replayed: boolean): Record<string, string> =>
  replayed ? { 'Idempotency-Replayed': 'true' } : {};
