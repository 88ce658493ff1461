import { createRoute } from '@hono/zod-openapi';
import type { Context } from '../../context.ts';
import { VitrineError } from '../../domain/errors.ts';
import { problems } from '../problem.ts';
import { type ApiRouter, createRouter } from '../router.ts';
import { queueStats, removedJobs, workerList } from '../schemas/queue.ts';
import { toWireStats, toWireWorker } from '../wire.ts';

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

export function createQueueRoutes({ config, logger, queue, registry }: Context): ApiRouter {
  const routes = createRouter();

  routes.openapi(statsRoute, async (c) => {
    const [stats, workers] = await Promise.all([queue.stats(), registry.list()]);
    return c.json(toWireStats(stats, workers.length), 200);
  });

  routes.openapi(workersRoute, async (c) => {
    const workers = await registry.list();
    return c.json({ workers: workers.map(toWireWorker), count: workers.length }, 200);
  });

  routes.openapi(flushRoute, async (c) => {
    if (!config.allowFlush) throw new VitrineError('flush_not_allowed', 'ALLOW_FLUSH is not true.');
    const removed = await queue.flush();
    logger.warn({ request_id: c.get('requestId'), removed }, 'queue flushed');
    return c.json({ removed }, 200);
  });

  return routes;
}
