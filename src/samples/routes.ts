import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { createRoute, z } from '@hono/zod-openapi';
import { problems } from '../routing/problem.ts';
import { type ApiRouter, createRouter } from '../routing/router.ts';

const samplesRoute = createRoute({
  method: 'get',
  path: '/samples',
  tags: ['Jobs'],
  summary: 'A catalog to try Vitrine with',
  description:
    'Drawn products, as lines of NDJSON that `POST /queue/enqueue/batch` takes: 96 of them, the same each time.',
  responses: {
    200: { description: 'The lines', content: { 'application/x-ndjson': { schema: z.string() } } },
    ...problems(),
  },
});

const PROGRAM = join(import.meta.dirname, 'print-samples.ts');

/** Far more than it needs. */
const TIMEOUT_MS = 60_000;

export function createSampleRoutes(): ApiRouter {
  const routes = createRouter();
  routes.openAPIRegistry.registerPath(samplesRoute);
  routes.get(samplesRoute.path, (c) => {
    const child = spawn(process.execPath, [PROGRAM], {
      stdio: ['ignore', 'pipe', 'ignore'],
      timeout: TIMEOUT_MS,
    });
    const lines = Readable.toWeb(child.stdout) as ReadableStream<Uint8Array>;
    c.req.raw.signal.addEventListener('abort', () => child.kill(), { once: true });
    return c.body(lines, 200, { 'Content-Type': 'application/x-ndjson' });
  });
  return routes;
}
