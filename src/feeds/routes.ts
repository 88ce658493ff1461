import { createRoute, z } from '@hono/zod-openapi';
import { limitBody, readBytes } from '../routing/body.ts';
import { problems } from '../routing/problem.ts';
import { type ApiRouter, addBodyRoute, createRouter } from '../routing/router.ts';
import { previewFeed } from './preview.ts';
import { previewQuery, previewReply } from './schemas.ts';

const previewRoute = createRoute({
  method: 'post',
  path: '/catalog/preview',
  tags: ['Jobs'],
  summary: 'Say what a catalog file holds',
  description:
    'Reads a CSV or JSONL file by the rules of `vitrine index`, and enqueues nothing. At most 10,000 entries and 20 MB.',
  request: {
    query: previewQuery,
    body: {
      required: true,
      content: { 'application/octet-stream': { schema: z.string().openapi({ format: 'binary' }) } },
    },
  },
  responses: {
    200: { description: 'What it holds', content: { 'application/json': { schema: previewReply } } },
    ...problems('invalid_request', 'body_too_large', 'server_busy'),
  },
});

const MAX_BODY_BYTES = 20_000_000;

export function createFeedRoutes(): ApiRouter {
  const routes = createRouter();
  routes.use(previewRoute.path, limitBody(MAX_BODY_BYTES));
  addBodyRoute(routes, previewRoute, async (c) =>
    c.json(await previewFeed(c.req.valid('query').name, await readBytes(c)), 200),
  );
  return routes;
}
