import { createRoute } from '@hono/zod-openapi';
import { toVitrineError } from '../errors/vitrine-error.ts';
import type { JobQueue } from '../queue/port.ts';
import { invalidRequest } from '../routing/faults.ts';
import { problems } from '../routing/problem.ts';
import { type ApiRouter, createRouter } from '../routing/router.ts';
import { deliveriesQuery, deliveryPage, webhookEvent } from './schemas.ts';
import { toWireDelivery } from './wire.ts';

export interface WebhookParts {
  readonly queue: Pick<JobQueue, 'deliveries'>;
}

const listRoute = createRoute({
  method: 'get',
  path: '/webhooks/deliveries',
  tags: ['Webhooks'],
  summary: 'What became of the reports to callback addresses',
  description:
    'The last one first. Kept as long as other jobs; those that failed are in the dead-letter queue too.',
  request: { query: deliveriesQuery },
  responses: {
    200: { description: 'A page', content: { 'application/json': { schema: deliveryPage } } },
    ...problems('invalid_request', 'queue_unavailable'),
  },
});

export function createWebhookRoutes({ queue }: WebhookParts): ApiRouter {
  const routes = createRouter();

  routes.openAPIRegistry.registerWebhook({
    method: 'post',
    path: 'jobEnded',
    tags: ['Webhooks'],
    summary: 'A job with a callback_url has ended',
    description:
      'Signed as Standard Webhooks 1.0.0 says, with one signature per secret of WEBHOOK_SECRETS. Repeated for a day until it is answered 2xx, with the same `webhook-id`; redirects are not followed.',
    request: { body: { required: true, content: { 'application/json': { schema: webhookEvent } } } },
    responses: {
      '2XX': { description: 'It is delivered' },
      410: { description: 'It is not sent again' },
      429: { description: 'It is sent again after `Retry-After`, and others to this host more slowly' },
    },
  });

  routes.openapi(listRoute, async (c) => {
    const { limit, cursor } = c.req.valid('query');
    const request = { limit, ...(cursor !== undefined && { cursor }) };
    const page = await queue.deliveries(request).catch((error: unknown) => {
      if (toVitrineError(error).code !== 'invalid_request') throw error;
      throw invalidRequest([{ path: 'cursor', message: 'must be the next_cursor of a page of this list' }]);
    });
    const deliveries = page.jobs.map(toWireDelivery).filter((delivery) => delivery !== null);
    return c.json({ deliveries, next_cursor: page.nextCursor, total: page.total }, 200);
  });

  return routes;
}
