import { createRoute, z } from '@hono/zod-openapi';
import { version as uuidVersion } from 'uuid';
import { VitrineError } from '../errors/vitrine-error.ts';
import type { Clock } from '../observability/clock.ts';
import { ENDED_STATUSES } from '../queue/job.ts';
import type { JobQueue, JobView } from '../queue/port.ts';
import { invalidRequest } from '../routing/faults.ts';
import { problems } from '../routing/problem.ts';
import { type ApiRouter, createRouter } from '../routing/router.ts';
import { listJobs } from './list-jobs.ts';
import { jobId, jobPage, jobsQuery, jobView } from './schemas.ts';
import { toWireJob } from './wire.ts';

export interface JobParts {
  readonly clock: Pick<Clock, 'now'>;
  readonly queue: Pick<JobQueue, 'status' | 'cancel' | 'redrive' | 'list' | 'jobsOf'>;
}

const params = z.object({ job_id: jobId });

const statusRoute = createRoute({
  method: 'get',
  path: '/queue/status/{job_id}',
  tags: ['Jobs'],
  summary: 'The state of a job',
  description:
    'Kept for ENDED_TTL_HOURS after the job has ended, 24 unless set otherwise; of the MAX_ENDED jobs that ended last.',
  request: { params },
  responses: {
    200: { description: 'The job', content: { 'application/json': { schema: jobView } } },
    ...problems('invalid_request', 'job_not_found', 'job_expired', 'queue_unavailable'),
  },
});

const jobRoute = createRoute({
  ...statusRoute,
  path: '/queue/jobs/{job_id}',
  summary: 'The same as /queue/status/{job_id}',
});

const listRoute = createRoute({
  method: 'get',
  path: '/queue/jobs',
  tags: ['Jobs'],
  summary: 'The jobs of a state, or of a product',
  description: [
    'By `status`: the one that came to it last first; of `processing`, the one that has run longest first.',
    'By `product_id`: its jobs that wait or run and its dead letters, by image id, at most 1,000 on one page; with `status`, only those of it.',
  ].join('\n\n'),
  request: { query: jobsQuery },
  responses: {
    200: { description: 'A page', content: { 'application/json': { schema: jobPage } } },
    ...problems('invalid_request', 'queue_unavailable'),
  },
});

const cancelRoute = createRoute({
  method: 'post',
  path: '/queue/jobs/{job_id}/cancel',
  tags: ['Jobs'],
  summary: 'Cancel a job',
  description:
    'A waiting job is cancelled at once; a running one within one renewal of its lease, without a write.',
  request: { params },
  responses: {
    200: { description: 'Cancelled', content: { 'application/json': { schema: jobView } } },
    202: { description: 'It runs, and will stop', content: { 'application/json': { schema: jobView } } },
    ...problems('invalid_request', 'job_not_found', 'job_expired', 'job_already_ended', 'queue_unavailable'),
  },
});

const retryRoute = createRoute({
  method: 'post',
  path: '/queue/jobs/{job_id}/retry',
  tags: ['Jobs'],
  summary: 'Try a failed job again',
  description:
    'It leaves the dead-letter queue and waits again with fresh attempts. May be repeated: a job that waits or runs is answered with its state.',
  request: { params },
  responses: {
    202: { description: 'It waits again', content: { 'application/json': { schema: jobView } } },
    ...problems('invalid_request', 'job_not_found', 'job_expired', 'job_not_dead', 'queue_unavailable'),
  },
});

export function createJobRoutes({ clock, queue }: JobParts): ApiRouter {
  const routes = createRouter();

  async function readJob(id: string): Promise<JobView> {
    const job = await queue.status(id);
    if (job === null) throw toUnknownJob(id, clock.now());
    return job;
  }

  for (const route of [statusRoute, jobRoute]) {
    routes.openapi(route, async (c) => c.json(toWireJob(await readJob(c.req.valid('param').job_id)), 200));
  }

  routes.openapi(listRoute, async (c) => {
    const { status, product_id: product, ...page } = c.req.valid('query');
    if (product !== undefined) {
      const jobs = (await queue.jobsOf(product)).filter((job) => (status ?? job.status) === job.status);
      const listed = jobs.slice(0, page.limit).map(toWireJob);
      return c.json({ jobs: listed, next_cursor: null, total: jobs.length }, 200);
    }
    if (status === undefined) {
      throw invalidRequest([{ path: 'status', message: 'is required without product_id' }]);
    }
    const { jobs, nextCursor, total } = await listJobs(queue, { status, ...page });
    return c.json({ jobs: jobs.map(toWireJob), next_cursor: nextCursor, total }, 200);
  });

  routes.openapi(cancelRoute, async (c) => {
    const { job_id: id } = c.req.valid('param');
    const outcome = await queue.cancel(id);
    if (outcome === 'ended') throw new VitrineError('job_already_ended', 'The job has already ended.');
    const job = toWireJob(await readJob(id));
    return outcome === 'requested' ? c.json(job, 202) : c.json(job, 200);
  });

  routes.openapi(retryRoute, async (c) => {
    const { job_id: id } = c.req.valid('param');
    const redriven = await queue.redrive({ ids: [id] });
    const job = await readJob(id);
    // Nothing was redriven, and it waits or runs: this is the repetition of a retry whose reply was lost.
    if (redriven === 0 && ENDED_STATUSES.includes(job.status)) throw toNotDead(job);
    return c.json(toWireJob(job), 202);
  });

  return routes;
}

const MAX_EXPIRED_AGE_MS = 30 * 86_400_000;

/** Ids carry the time at which they were made: a young one was most likely a job that is no longer kept. */
function toUnknownJob(id: string, nowMs: number): VitrineError {
  const madeAt = uuidVersion(id) === 7 ? Number.parseInt(id.replace('-', '').slice(0, 12), 16) : 0;
  if (madeAt <= nowMs && madeAt > nowMs - MAX_EXPIRED_AGE_MS) {
    return new VitrineError('job_expired', 'The job is no longer kept, or never existed.');
  }
  return new VitrineError('job_not_found', 'No job has this id.');
}

function toNotDead({ status }: JobView): VitrineError {
  if (status !== 'failed') return new VitrineError('job_not_dead', `The job is ${status}.`);
  return new VitrineError('job_not_dead', 'The inline image of the job is no longer kept.', {
    suggestion: 'Enqueue the product image again.',
  });
}
