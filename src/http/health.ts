import { createRoute, type z } from '@hono/zod-openapi';
import type { Context } from '../context.ts';
import type { ErrorCode } from '../errors/error-table.ts';
import { toVitrineError, VitrineError } from '../errors/vitrine-error.ts';
import { problems } from '../routing/problem.ts';
import { type ApiRouter, createRouter } from '../routing/router.ts';
import { alive, health } from './health-schema.ts';
import type { Readiness } from './readiness.ts';

const healthRoute = createRoute({
  method: 'get',
  path: '/health',
  tags: ['Health'],
  summary: 'Each dependency with its state and latency',
  responses: {
    200: { description: 'Jobs are accepted', content: { 'application/json': { schema: health } } },
    503: { description: 'Jobs are not accepted', content: { 'application/json': { schema: health } } },
    ...problems(),
  },
});

const livezRoute = createRoute({
  method: 'get',
  path: '/livez',
  tags: ['Health'],
  summary: 'Whether the process answers',
  responses: {
    200: { description: 'It does', content: { 'application/json': { schema: alive } } },
    ...problems(),
  },
});

const readyzRoute = createRoute({
  method: 'get',
  path: '/readyz',
  tags: ['Health'],
  summary: 'Whether requests can be served',
  description:
    'The queue and the vector store answer, the model is loaded, and the server is not being stopped.',
  responses: {
    200: { description: 'They can', content: { 'application/json': { schema: alive } } },
    ...problems('not_ready', 'queue_unavailable', 'store_unavailable', 'model_unavailable', 'model_mismatch'),
  },
});

type Dependency = z.input<typeof health>['dependencies']['queue'];
type ModelHealth = z.input<typeof health>['dependencies']['model'];

/** A dependency that doesn't answer by then is told as down, whatever its client still tries. */
const DEADLINE_MS = 3000;

export function createHealthRoutes(context: Context, readiness: Readiness): ApiRouter {
  const { clock, config, embedder, queue, store } = context;
  const routes = createRouter();
  // With Redis away, jobs are accepted all the same: they are spooled.
  const hasSpool = config.queue.redisUrl !== undefined;
  const startedAt = clock.monotonic();

  async function probe(kind: string, ping: () => Promise<void>, fallback: ErrorCode): Promise<Dependency> {
    const from = clock.monotonic();
    try {
      await withDeadline(ping(), fallback);
      return {
        kind,
        state: 'up',
        latency_ms: Math.round((clock.monotonic() - from) * 1000) / 1000,
        error: null,
      };
    } catch (error) {
      return { kind, state: 'down', latency_ms: null, error: toWireError(toVitrineError(error, fallback)) };
    }
  }

  const probeQueue = () =>
    probe(config.queue.redisUrl === undefined ? 'sqlite' : 'redis', () => queue.ping(), 'queue_unavailable');
  const probeStore = () =>
    probe(
      config.store.qdrantUrl === undefined ? 'sqlite' : 'qdrant',
      () => store.ping(),
      'store_unavailable',
    );

  function toModelHealth(): ModelHealth {
    const state = readiness.modelState();
    const error = state.kind === 'failed' ? toWireError(state.error) : null;
    return { state: state.kind, id: embedder.model.id, dimension: embedder.model.dimension, error };
  }

  routes.openapi(healthRoute, async (c) => {
    const [queueHealth, storeHealth] = await Promise.all([probeQueue(), probeStore()]);
    const model = toModelHealth();
    const dependencies = { queue: queueHealth, store: storeHealth, model };
    const whole = queueHealth.state === 'up' && storeHealth.state === 'up' && model.state === 'ready';
    const accepting = queueHealth.state === 'up' || hasSpool;
    const status = !accepting ? 'down' : whole ? 'ok' : 'degraded';
    const body = { status, uptime_ms: Math.round(clock.monotonic() - startedAt), dependencies } as const;
    return status === 'down' ? c.json(body, 503) : c.json(body, 200);
  });

  routes.openapi(livezRoute, (c) => c.json({ status: 'ok' } as const, 200));

  routes.openapi(readyzRoute, async (c) => {
    if (readiness.isDraining()) throw new VitrineError('not_ready', 'The server is being stopped.');
    const model = readiness.modelState();
    if (model.kind === 'failed') throw model.error;
    if (model.kind === 'loading') throw new VitrineError('not_ready', 'The model is being loaded.');
    // A store that goes away later is away for every replica: taking all of them out would only stop the
    // enqueueing too. Searches then tell it themselves, and /health does.
    await Promise.all([
      hasSpool || withDeadline(queue.ping(), 'queue_unavailable'),
      withDeadline(readiness.prepareStore(), 'store_unavailable'),
    ]);
    return c.json({ status: 'ok' } as const, 200);
  });

  async function withDeadline(answer: Promise<void>, code: ErrorCode): Promise<void> {
    const ended = new AbortController();
    const late = clock.sleep(DEADLINE_MS, ended.signal).then(() => {
      if (!ended.signal.aborted)
        throw new VitrineError(code, `There was no answer within ${DEADLINE_MS} ms.`);
    });
    try {
      await Promise.race([answer, late]);
    } finally {
      ended.abort();
    }
  }

  return routes;
}

function toWireError(error: VitrineError): NonNullable<Dependency['error']> {
  return { code: error.code, detail: error.message, suggestion: error.suggestion };
}
