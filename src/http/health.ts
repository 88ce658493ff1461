import { createRoute, type z } from '@hono/zod-openapi';
import type { Config } from '../config/config.ts';
import type { ErrorCode } from '../errors/error-table.ts';
import { toVitrineError, VitrineError } from '../errors/vitrine-error.ts';
import { toPending } from '../jobs/alerts.ts';
import type { Clock } from '../observability/clock.ts';
import type { JobQueue } from '../queue/port.ts';
import { problems } from '../routing/problem.ts';
import { type ApiRouter, createRouter } from '../routing/router.ts';
import type { VectorStore } from '../vectors/port.ts';
import { alive, health } from './health-schema.ts';
import type { ModelState, Readiness } from './readiness.ts';

/** The queue as the API process has it: with a spool in front, it also knows how many jobs are spooled. */
export type ApiQueue = JobQueue & { readonly spooledCount?: () => number };

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
    ...problems(
      'not_ready',
      'queue_unavailable',
      'store_unavailable',
      'model_unavailable',
      'device_unavailable',
      'model_mismatch',
    ),
  },
});

type QueueHealth = z.input<typeof health>['dependencies']['queue'];
type StoreHealth = z.input<typeof health>['dependencies']['store'];
type ModelHealth = z.input<typeof health>['dependencies']['model'];

/** What doesn't answer by then counts as down, so that /health itself answers within a second. */
const DEADLINE_MS = 700;

export interface HealthParts {
  readonly clock: Clock;
  readonly config: Pick<Config, 'queue' | 'store'>;
  readonly queue: ApiQueue;
  readonly store: Pick<VectorStore, 'ping'>;
}

export function createHealthRoutes(
  { clock, config, queue, store }: HealthParts,
  readiness: Readiness,
): ApiRouter {
  const routes = createRouter();
  const startedAt = clock.monotonic();

  async function probeQueue(): Promise<QueueHealth> {
    const kind = config.queue.redis === undefined ? 'sqlite' : 'redis';
    const spooled = queue.spooledCount?.() ?? 0;
    let pending: number | null = null;
    const probed = await probe(kind, 'queue_unavailable', async () => {
      const [stats] = await Promise.all([queue.stats(), queue.ping()]);
      pending = toPending(stats);
    });
    return { ...probed, pending, spooled };
  }

  function probeStore(): Promise<StoreHealth> {
    const kind = config.store.qdrantUrl === undefined ? 'sqlite' : 'qdrant';
    return probe(kind, 'store_unavailable', () => store.ping());
  }

  async function probe(kind: string, code: ErrorCode, ask: () => Promise<void>): Promise<StoreHealth> {
    const from = clock.monotonic();
    try {
      await withDeadline(ask(), code);
      const latencyMs = Math.round((clock.monotonic() - from) * 1000) / 1000;
      return { kind, state: 'up', latency_ms: latencyMs, error: null };
    } catch (error) {
      return { kind, state: 'down', latency_ms: null, error: toWireError(toVitrineError(error, code)) };
    }
  }

  routes.openapi(healthRoute, async (c) => {
    const [queueHealth, storeHealth] = await Promise.all([probeQueue(), probeStore()]);
    const model = toModelHealth(readiness.modelState());
    const isWhole = queueHealth.state === 'up' && storeHealth.state === 'up' && model.state === 'ready';
    const isAccepting = queueHealth.state === 'up' || isSpooling(queueHealth.error?.code);
    const status = !isAccepting ? 'down' : isWhole ? 'ok' : 'degraded';
    const body = {
      status,
      uptime_ms: Math.round(clock.monotonic() - startedAt),
      dependencies: { queue: queueHealth, store: storeHealth, model },
    } as const;
    return status === 'down' ? c.json(body, 503) : c.json(body, 200);
  });

  routes.openapi(livezRoute, (c) => c.json({ status: 'ok' } as const, 200));

  routes.openapi(readyzRoute, async (c) => {
    if (readiness.stopping.aborted) throw new VitrineError('not_ready', 'The server is being stopped.');
    await Promise.all([requireQueue(), requirePrepared()]);
    return c.json({ status: 'ok' } as const, 200);
  });

  async function requireQueue(): Promise<void> {
    await withDeadline(queue.ping(), 'queue_unavailable').catch((error: unknown) => {
      if (!isSpooling(toVitrineError(error).code)) throw error;
    });
  }

  /**
   * Asks for what failed to be tried again. A store that fails later fails for every replica: taking all of them out
   * would only stop the enqueueing too, so searches report it themselves, and /health does.
   */
  async function requirePrepared(): Promise<void> {
    const state = readiness.modelState();
    const prepared = readiness.prepare();
    if (state.kind === 'failed') {
      prepared.catch(() => undefined);
      throw state.error;
    }
    await withDeadline(prepared, state.kind === 'loading' ? 'not_ready' : 'store_unavailable');
  }

  /** Whether jobs are accepted although the queue failed with this code. */
  function isSpooling(code: string | undefined): boolean {
    return queue.spooledCount !== undefined && code === 'queue_unavailable';
  }

  async function withDeadline(answer: Promise<void>, code: ErrorCode): Promise<void> {
    const answered = new AbortController();
    const late = clock.sleep(DEADLINE_MS, answered.signal).then(() => {
      if (answered.signal.aborted) return;
      const detail =
        code === 'not_ready' ? 'The model is being loaded.' : `No answer within ${DEADLINE_MS} ms.`;
      throw new VitrineError(code, detail);
    });
    try {
      await Promise.race([answer, late]);
    } finally {
      answered.abort();
    }
  }

  return routes;
}

function toModelHealth(state: ModelState): ModelHealth {
  if (state.kind === 'ready') {
    return { state: 'ready', id: state.model.id, dimension: state.model.dimension, error: null };
  }
  const error = state.kind === 'failed' ? toWireError(state.error) : null;
  return { state: state.kind, id: null, dimension: null, error };
}

function toWireError(error: VitrineError): NonNullable<StoreHealth['error']> {
  return { code: error.code, detail: error.message, suggestion: error.suggestion };
}
