import { createRoute } from '@hono/zod-openapi';
import type { Config } from '../config/config.ts';
import { VitrineError } from '../errors/vitrine-error.ts';
import type { Logger } from '../observability/logger.ts';
import type { JobQueue } from '../queue/port.ts';
import { problems } from '../routing/problem.ts';
import { type ApiRouter, createRouter } from '../routing/router.ts';
import { readQueueState } from './queue-state.ts';
import {
  activeQuery,
  cleanupReport,
  jobList,
  pausedState,
  queueStats,
  removedJobs,
  workerList,
} from './schemas.ts';
import { toWireCleanup, toWireJob, toWireWorkers } from './wire.ts';

export interface QueueParts {
  readonly config: Pick<Config, 'alerts' | 'allowFlush' | 'queue'>;
  readonly logger: Logger;
  readonly queue: Pick<JobQueue, 'stats' | 'workers' | 'flush' | 'list' | 'cleanup' | 'pause' | 'resume'>;
}

const statsRoute = createRoute({
  method: 'get',
  path: '/queue/stats',
  tags: ['Queue'],
  summary: 'Counts, rates and ages',
  responses: {
    200: { description: 'The queue now', content: { 'application/json': { schema: queueStats } } },
    ...problems('queue_unavailable'),
  },
});

const statusRoute = createRoute({
  ...statsRoute,
  path: '/queue/status',
  summary: 'The same as /queue/stats',
});

const workersRoute = createRoute({
  method: 'get',
  path: '/queue/workers',
  tags: ['Queue'],
  summary: 'The workers that are alive',
  description:
    'By their heartbeats: a worker that was killed is gone within 60 seconds, a stopped one at once.',
  responses: {
    200: { description: 'The workers', content: { 'application/json': { schema: workerList } } },
    ...problems('queue_unavailable'),
  },
});

const flushRoute = createRoute({
  method: 'post',
  path: '/queue/flush',
  tags: ['Queue'],
  summary: 'Remove every job',
  description: 'Only where the API was started with ALLOW_FLUSH=true. Stored vectors stay.',
  responses: {
    200: { description: 'Removed', content: { 'application/json': { schema: removedJobs } } },
    ...problems('flush_not_allowed', 'queue_unavailable'),
  },
});

const activeRoute = createRoute({
  method: 'get',
  path: '/queue/active',
  tags: ['Queue'],
  summary: 'The jobs that run now',
  description: 'The one that has run longest first.',
  request: { query: activeQuery },
  responses: {
    200: { description: 'The jobs', content: { 'application/json': { schema: jobList } } },
    ...problems('invalid_request', 'queue_unavailable'),
  },
});

const cleanupRoute = createRoute({
  method: 'post',
  path: '/queue/cleanup',
  tags: ['Queue'],
  summary: 'Recover stale leases and repair the queue now',
  description: 'Checks that every job is in exactly one place. Workers recover stale leases by themselves.',
  responses: {
    200: { description: 'What was done', content: { 'application/json': { schema: cleanupReport } } },
    ...problems('queue_unavailable'),
  },
});

const pauseRoute = createRoute({
  method: 'post',
  path: '/queue/pause',
  tags: ['Queue'],
  summary: 'Let workers claim nothing more',
  description: 'What they hold is finished; jobs are still accepted.',
  responses: {
    200: { description: 'Paused', content: { 'application/json': { schema: pausedState } } },
    ...problems('queue_unavailable'),
  },
});

const resumeRoute = createRoute({
  method: 'post',
  path: '/queue/resume',
  tags: ['Queue'],
  summary: 'Let workers claim again',
  responses: {
    200: { description: 'Running', content: { 'application/json': { schema: pausedState } } },
    ...problems('queue_unavailable'),
  },
});

export function createQueueRoutes({ config, logger, queue }: QueueParts): ApiRouter {
  const routes = createRouter();

  routes.openapi(statsRoute, async (c) => c.json((await readQueueState({ config, queue })).stats, 200));
  routes.openapi(statusRoute, async (c) => c.json((await readQueueState({ config, queue })).stats, 200));
  routes.openapi(workersRoute, async (c) => c.json(toWireWorkers(await queue.workers()), 200));

  routes.openapi(flushRoute, async (c) => {
    if (!config.allowFlush) throw new VitrineError('flush_not_allowed', 'ALLOW_FLUSH is not true.');
    const removed = await queue.flush();
    logger.warn({ request_id: c.get('requestId'), removed }, 'queue flushed');
    return c.json({ removed }, 200);
  });

  routes.openapi(activeRoute, async (c) => {
    const { limit } = c.req.valid('query');
    const { jobs } = await queue.list({ status: 'processing', limit });
    return c.json({ jobs: jobs.map(toWireJob), count: jobs.length }, 200);
  });

  routes.openapi(cleanupRoute, async (c) => {
    const report = await queue.cleanup();
    logger.info({ request_id: c.get('requestId'), ...report }, 'queue cleaned up');
    return c.json(toWireCleanup(report), 200);
  });

  routes.openapi(pauseRoute, async (c) => {
    await queue.pause();
    logger.warn({ request_id: c.get('requestId') }, 'queue paused');
    return c.json({ paused: true }, 200);
  });

  routes.openapi(resumeRoute, async (c) => {
    await queue.resume();
    logger.info({ request_id: c.get('requestId') }, 'queue resumed');
    return c.json({ paused: false }, 200);
  });

  return routes;
}
