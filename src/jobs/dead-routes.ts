import { createRoute, z } from '@hono/zod-openapi';
import type { Context } from '../context.ts';
import type { DeadSelection, JobQueue } from '../queue/port.ts';
import { readJson, toBodyKind } from '../routing/body.ts';
import { parseWith } from '../routing/faults.ts';
import { problems } from '../routing/problem.ts';
import { type ApiRouter, createRouter } from '../routing/router.ts';
import {
  deadPage,
  deadQuery,
  exportQuery,
  purgeQuery,
  redrivenJobs,
  redriveRequest,
} from './dead-schemas.ts';
import { removedJobs } from './queue-schemas.ts';
import { toWireJob } from './wire.ts';

const listRoute = createRoute({
  method: 'get',
  path: '/queue/dead',
  tags: ['Dead letter'],
  summary: 'The jobs that failed for good',
  request: { query: deadQuery },
  responses: {
    200: { description: 'A page', content: { 'application/json': { schema: deadPage } } },
    ...problems('invalid_request', 'queue_unavailable'),
  },
});

const exportRoute = createRoute({
  method: 'get',
  path: '/queue/dead/export',
  tags: ['Dead letter'],
  summary: 'All of them as NDJSON',
  description: 'One job a line, as in the list.',
  request: { query: exportQuery },
  responses: {
    200: {
      description: 'The lines',
      content: { 'application/x-ndjson': { schema: z.string() } },
    },
    ...problems('invalid_request', 'queue_unavailable'),
  },
});

const redriveRoute = createRoute({
  method: 'post',
  path: '/queue/dead/redrive',
  tags: ['Dead letter'],
  summary: 'Put dead letters back in the queue',
  description: 'With fresh attempts. Asked twice, each job is put back once.',
  request: {
    body: {
      required: true,
      content: { 'application/json': { schema: { $ref: '#/components/schemas/RedriveRequest' } } },
    },
  },
  responses: {
    200: { description: 'Put back', content: { 'application/json': { schema: redrivenJobs } } },
    ...problems(
      'invalid_request',
      'invalid_json',
      'body_too_large',
      'unsupported_media_type',
      'queue_unavailable',
    ),
  },
});

const purgeRoute = createRoute({
  method: 'delete',
  path: '/queue/dead',
  tags: ['Dead letter'],
  summary: 'Remove dead letters for good',
  description: 'By `id`, by `code`, or `all=true`: exactly one of them.',
  request: { query: purgeQuery },
  responses: {
    200: { description: 'Removed', content: { 'application/json': { schema: removedJobs } } },
    ...problems('invalid_request', 'queue_unavailable'),
  },
});

const MAX_BODY_BYTES = 1_000_000;
const EXPORT_PAGE = 500;

export function createDeadRoutes({ queue, logger }: Context): ApiRouter {
  const routes = createRouter();
  routes.openAPIRegistry.register('RedriveRequest', redriveRequest);

  routes.openapi(listRoute, async (c) => {
    const { code, limit, cursor } = c.req.valid('query');
    const page = await queue.dead({
      limit,
      ...(code !== undefined && { code }),
      ...(cursor !== undefined && { cursor }),
    });
    return c.json({ jobs: page.jobs.map(toWireJob), next_cursor: page.nextCursor, total: page.total }, 200);
  });

  // Routes of the OpenAPI router can't have answers of this media type: its types take every …json for JSON.
  routes.openAPIRegistry.registerPath(exportRoute);
  routes.get(exportRoute.getRoutingPath(), async (c) => {
    const lines = exportDead(queue, parseWith(exportQuery, c.req.query(), ['code']).code);
    // The first page is asked for before the status is sent: a queue that is away is told as such.
    const first = await lines.next();
    const all = (async function* () {
      if (first.done !== true) yield first.value;
      yield* lines;
    })();
    return c.body(ReadableStream.from(all), 200, { 'Content-Type': 'application/x-ndjson' });
  });

  routes.openapi(redriveRoute, async (c) => {
    toBodyKind(c, ['json']);
    const { ids, code } = parseWith(redriveRequest, await readJson(c, MAX_BODY_BYTES), [
      'ids',
      'code',
      'all',
    ]);
    const redriven = await queue.redrive(toSelection(ids, code));
    logger.info({ request_id: c.get('requestId'), redriven }, 'dead letters put back');
    return c.json({ redriven }, 200);
  });

  routes.openapi(purgeRoute, async (c) => {
    const { id, code } = c.req.valid('query');
    const removed = await queue.purgeDead(toSelection(id, code));
    logger.warn({ request_id: c.get('requestId'), removed }, 'dead letters removed');
    return c.json({ removed }, 200);
  });

  return routes;
}

function toSelection(ids: readonly string[] | undefined, code: string | undefined): DeadSelection {
  if (ids !== undefined) return { ids };
  return code === undefined ? 'all' : { code };
}

const encoder = new TextEncoder();

/** A chunk a page, so that a dead letter of any length is never held as a whole. */
async function* exportDead(queue: JobQueue, code: string | undefined): AsyncGenerator<Uint8Array> {
  let cursor: string | null = null;
  do {
    const page = await queue.dead({
      limit: EXPORT_PAGE,
      ...(code !== undefined && { code }),
      ...(cursor !== null && { cursor }),
    });
    yield encoder.encode(page.jobs.map((job) => `${JSON.stringify(toWireJob(job))}\n`).join(''));
    cursor = page.nextCursor;
  } while (cursor !== null);
}
