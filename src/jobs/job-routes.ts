import { createRoute, z } from '@hono/zod-openapi';
import type { Context } from '../context.ts';
import { VitrineError } from '../errors/vitrine-error.ts';
import type { JobView } from '../queue/port.ts';
import { problems } from '../routing/problem.ts';
import { type ApiRouter, createRouter } from '../routing/router.ts';
import { jobId, jobView } from './job-view.ts';
import { toWireJob } from './wire.ts';

const params = z.object({ job_id: jobId });

const statusRoute = createRoute({
  method: 'get',
  path: '/queue/status/{job_id}',
  tags: ['Jobs'],
  summary: 'The state of a job',
  description: 'Kept for 24 hours after the job has ended.',
  request: { params },
  responses: {
    200: { description: 'The job', content: { 'application/json': { schema: jobView } } },
    ...problems('invalid_request', 'job_not_found', 'queue_unavailable'),
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
    ...problems('invalid_request', 'job_not_found', 'job_already_ended', 'queue_unavailable'),
  },
});

const retryRoute = createRoute({
  method: 'post',
  path: '/queue/jobs/{job_id}/retry',
  tags: ['Jobs'],
  summary: 'Try a failed job again',
  description: 'It leaves the dead letter and waits again with fresh attempts.',
  request: { params },
  responses: {
    202: { description: 'It waits again', content: { 'application/json': { schema: jobView } } },
    ...problems('invalid_request', 'job_not_found', 'job_not_dead', 'queue_unavailable'),
  },
});

export function createJobRoutes({ queue }: Context): ApiRouter {
  const routes = createRouter();

  async function look(id: string): Promise<JobView> {
    const job = await queue.status(id);
    if (job === null) throw new VitrineError('job_not_found', 'No job has this id.');
    return job;
  }

  routes.openapi(statusRoute, async (c) => c.json(toWireJob(await look(c.req.valid('param').job_id)), 200));

  routes.openapi(cancelRoute, async (c) => {
    const { job_id: id } = c.req.valid('param');
    const outcome = await queue.cancel(id);
    if (outcome === 'ended') throw new VitrineError('job_already_ended', 'The job has already ended.');
    const job = toWireJob(await look(id));
    return outcome === 'requested' ? c.json(job, 202) : c.json(job, 200);
  });

  routes.openapi(retryRoute, async (c) => {
    const { job_id: id } = c.req.valid('param');
    const redriven = await queue.redrive({ ids: [id] });
    const job = await look(id);
    if (redriven === 0) throw new VitrineError('job_not_dead', `The job is ${job.status}.`);
    return c.json(toWireJob(job), 202);
  });

  return routes;
}
