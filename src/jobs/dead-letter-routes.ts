import { createRoute, z } from '@hono/zod-openapi';
import type { Logger } from '../observability/logger.ts';
import type { DeadSelection, JobPage, JobQueue } from '../queue/port.ts';
import { limitBody, parseBodyKind, readJson } from '../routing/body.ts';
import { invalidRequest, parseWith } from '../routing/faults.ts';
import { problems } from '../routing/problem.ts';
import { type ApiRouter, addBodyRoute, createRouter } from '../routing/router.ts';
import { listJobs } from './list-jobs.ts';
import {
  deadQuery,
  exportQuery,
  jobPage,
  purgeQuery,
  purgeRequest,
  redrivenJobs,
  redriveRequest,
  removedJobs,
} from './schemas.ts';
import { toWireJob } from './wire.ts';

export interface DeadLetterParts {
  readonly logger: Logger;
  readonly queue: Pick<JobQueue, 'list' | 'redrive' | 'purgeDead'>;
}

const listRoute = createRoute({
  method: 'get',
  path: '/queue/dead',
  tags: ['Dead letter'],
  summary: 'The jobs that failed for good',
  request: { query: deadQuery },
  responses: {
    200: { description: 'A page', content: { 'application/json': { schema: jobPage } } },
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
    body: { required: true, content: { 'application/json': { schema: redriveRequest } } },
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
  description:
    'By `id`, by `code`, or `all=true`: exactly one of them. Many ids go in the body, as in a redrive; the query is empty then.',
  request: {
    query: purgeQuery,
    body: { required: false, content: { 'application/json': { schema: purgeRequest } } },
  },
  responses: {
    200: { description: 'Removed', content: { 'application/json': { schema: removedJobs } } },
    ...problems(
      'invalid_request',
      'invalid_json',
      'body_too_large',
      'unsupported_media_type',
      'queue_unavailable',
    ),
  },
});

const MAX_BODY_BYTES = 1_000_000;
const EXPORT_PAGE = 500;

export function createDeadLetterRoutes({ queue, logger }: DeadLetterParts): ApiRouter {
  const routes = createRouter();

  routes.openapi(listRoute, async (c) => {
    const page = await listJobs(queue, { status: 'failed', ...c.req.valid('query') });
    return c.json({ jobs: page.jobs.map(toWireJob), next_cursor: page.nextCursor, total: page.total }, 200);
  });

  // The OpenAPI router's types take every media type that ends in json for JSON, and this one is lines.
  routes.openAPIRegistry.registerPath(exportRoute);
  routes.get(exportRoute.path, async (c) => {
    const lines = exportDead(queue, parseWith(exportQuery, c.req.query()).code);
    // The first page is read before the status is sent: an unreachable queue is answered as such.
    const first = await lines.next();
    const all = (async function* () {
      if (first.done !== true) yield first.value;
      yield* lines;
    })();
    return c.body(ReadableStream.from(all), 200, { 'Content-Type': 'application/x-ndjson' });
  });

  routes.use(redriveRoute.path, limitBody(MAX_BODY_BYTES));
  addBodyRoute(routes, redriveRoute, async (c) => {
    parseBodyKind(c, ['json']);
    const redriven = await queue.redrive(toSelection(parseWith(redriveRequest, await readJson(c))));
    logger.info({ request_id: c.get('requestId'), redriven }, 'dead letters put back');
    return c.json({ redriven }, 200);
  });

  routes.use(purgeRoute.path, limitBody(MAX_BODY_BYTES));
  addBodyRoute(routes, purgeRoute, async (c) => {
    const { id: ids, code, all } = c.req.valid('query');
    const hasQuery = ids !== undefined || code !== undefined || all !== undefined;
    const hasBody = c.req.header('content-type') !== undefined;
    if (hasQuery && hasBody) {
      throw invalidRequest([
        { path: '', message: 'dead letters are named in the query or in the body, not both' },
      ]);
    }
    if (hasBody) parseBodyKind(c, ['json']);
    const asked = hasBody
      ? await readJson(c)
      : { ...(ids && { ids }), ...(code && { code }), ...(all && { all: true }) };
    const removed = await queue.purgeDead(toSelection(parseWith(purgeRequest, asked)));
    logger.warn({ request_id: c.get('requestId'), removed }, 'dead letters removed');
    return c.json({ removed }, 200);
  });

  return routes;
}

function toSelection({ ids, code }: z.infer<typeof purgeRequest>): DeadSelection {
  if (ids !== undefined) return { ids };
  return code === undefined ? 'all' : { code };
}

const encoder = new TextEncoder();

/** One chunk per page, so that not all dead letters are held at once. */
async function* exportDead(
  queue: Pick<JobQueue, 'list'>,
  code: string | undefined,
): AsyncGenerator<Uint8Array> {
  let cursor: string | undefined;
  do {
    const page: JobPage = await listJobs(queue, { status: 'failed', code, limit: EXPORT_PAGE, cursor });
    yield encoder.encode(page.jobs.map((job) => `${JSON.stringify(toWireJob(job))}\n`).join(''));
    cursor = page.nextCursor ?? undefined;
  } while (cursor !== undefined);
}
