import type { MiddlewareHandler } from 'hono';
import { csrf } from 'hono/csrf';
import { methodNotAllowed } from 'hono/method-not-allowed';
import { requestId } from 'hono/request-id';
import { secureHeaders } from 'hono/secure-headers';
import { v7 as uuidv7 } from 'uuid';
import type { Embedder } from '../../models/embedder.ts';
import type { Config } from '../config/config.ts';
import { VitrineError } from '../errors/vitrine-error.ts';
import type { ImageSource } from '../images/port.ts';
import { createDeadLetterRoutes } from '../jobs/dead-letter-routes.ts';
import { createEnqueueRoutes } from '../jobs/enqueue-routes.ts';
import { createJobRoutes } from '../jobs/job-routes.ts';
import { createQueueRoutes } from '../jobs/queue-routes.ts';
import type { Clock } from '../observability/clock.ts';
import type { Logger } from '../observability/logger.ts';
import { createProductRoutes } from '../products/routes.ts';
import { createErrorHandler, toProblemResponse } from '../routing/problem.ts';
import { type ApiEnv, type ApiRouter, createRouter } from '../routing/router.ts';
import { createSearchRoutes } from '../search/routes.ts';
import type { VectorStore } from '../vectors/port.ts';
import { createWebhookRoutes } from '../webhooks/routes.ts';
import { type ApiQueue, createHealthRoutes } from './health.ts';
import { createPageRoutes } from './pages.ts';
import { createReadiness, type Readiness } from './readiness.ts';

/** What the API is made of. */
export interface ApiParts {
  readonly config: Config;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly queue: ApiQueue;
  readonly store: VectorStore;
  readonly embedder: Embedder;
  readonly images: ImageSource;
}

/** The whole HTTP API without a socket: `app.request(path)` answers as the server would. */
export function createApp(context: ApiParts, readiness: Readiness = createReadiness(context)): ApiRouter {
  const { config, logger, clock, queue, store, embedder, images } = context;
  const parts: ApiParts = { config, logger, clock, queue, store, embedder, images };
  const app = createRouter();
  const onError = createErrorHandler(logger);
  app.use(requestId({ limitLength: 128, generator: () => uuidv7() }));
  app.use(logAccess(parts));
  app.use(async (c, next) => {
    try {
      await next();
    } catch (thrown) {
      // Hono gives only instances of Error to onError; the reason of an aborted request is text.
      c.res = onError(thrown, c);
    }
  });
  // No HSTS: the proxy that terminates TLS decides that for the whole host.
  app.use(secureHeaders({ strictTransportSecurity: false }));
  app.use(limitContent);
  app.use(
    methodNotAllowed({
      app,
      onMethodNotAllowed: (c, methods) => {
        c.header('Allow', methods.join(', '));
        return toProblemResponse(c, new VitrineError('method_not_allowed', `Not with ${c.req.method}.`));
      },
    }),
  );
  app.use(refuseOtherSites);
  app.onError(onError);
  app.notFound((c) =>
    toProblemResponse(c, new VitrineError('route_not_found', 'Nothing is at this address.')),
  );

  const { stopping, prepare, prepareStore } = readiness;
  app.route('/', createEnqueueRoutes({ ...parts, stopping }));
  app.route('/', createJobRoutes(parts));
  app.route('/', createQueueRoutes(parts));
  app.route('/', createDeadLetterRoutes(parts));
  app.route('/', createWebhookRoutes(parts));
  app.route('/', createSearchRoutes({ ...parts, prepare }));
  app.route('/', createProductRoutes({ ...parts, prepareStore }));
  app.route('/', createHealthRoutes(parts, readiness));
  app.route(
    '/',
    createPageRoutes(() => app),
  );
  return app;
}

const PROBES = new Set(['/livez', '/readyz', '/health']);

/** One line per request. The query is left out: callers may have put anything there. */
function logAccess({ clock, logger }: Pick<ApiParts, 'clock' | 'logger'>): MiddlewareHandler<ApiEnv> {
  return async (c, next) => {
    const from = clock.monotonic();
    await next();
    const entry = {
      request_id: c.get('requestId'),
      method: c.req.method,
      path: c.req.path,
      status: c.res.status,
      ms: Math.round(clock.monotonic() - from),
    };
    logger[PROBES.has(c.req.path) ? 'debug' : 'info'](entry, 'request');
  };
}

/** In a browser, an answer may load and frame nothing; pages have a policy of their own. */
const limitContent: MiddlewareHandler<ApiEnv> = async (c, next) => {
  await next();
  if (c.res.headers.has('Content-Security-Policy')) return;
  c.header('Content-Security-Policy', "default-src 'none'; frame-ancestors 'none'");
};

const csrfGuard = csrf({
  // A proxy that terminates TLS changes the scheme, and not the host.
  origin: (origin, c) => URL.parse(origin)?.host === new URL(c.req.url).host,
});

/**
 * A page of another site can make a browser send forms and empty posts to a server on the same machine. Browsers say
 * where such a request comes from. Programs say nothing, and Hono's guard would refuse them.
 */
const refuseOtherSites: MiddlewareHandler<ApiEnv> = (c, next) => {
  const isBrowser = c.req.header('origin') !== undefined || c.req.header('sec-fetch-site') !== undefined;
  return isBrowser ? csrfGuard(c, next) : next();
};
