import type { MiddlewareHandler } from 'hono';
import { methodNotAllowed } from 'hono/method-not-allowed';
import { requestId } from 'hono/request-id';
import { secureHeaders } from 'hono/secure-headers';
import { v7 as uuidv7 } from 'uuid';
import type { Context } from '../context.ts';
import { VitrineError } from '../errors/vitrine-error.ts';
import { createDeadRoutes } from '../jobs/dead-routes.ts';
import { createEnqueueRoutes } from '../jobs/enqueue-routes.ts';
import { createJobRoutes } from '../jobs/job-routes.ts';
import { createQueueRoutes } from '../jobs/queue-routes.ts';
import { createProductRoutes } from '../products/routes.ts';
import { createErrorHandler, toProblemResponse } from '../routing/problem.ts';
import { type ApiEnv, type ApiRouter, createRouter } from '../routing/router.ts';
import { createSearchRoutes } from '../search/routes.ts';
import { createHealthRoutes } from './health.ts';
import { createPageRoutes } from './pages.ts';
import { createReadiness, type Readiness } from './readiness.ts';

/** The whole HTTP API over a context, without a socket: `app.request(path)` answers as the server would. */
export function createApp(context: Context, readiness: Readiness = createReadiness(context)): ApiRouter {
  const app = createRouter();
  const onError = createErrorHandler(context.logger);
  app.use(requestId({ limitLength: 128, generator: () => uuidv7() }));
  app.use(logAccess(context));
  app.use(async (c, next) => {
    try {
      await next();
    } catch (thrown) {
      // Hono gives only instances of Error to onError; the reason of an aborted request is text.
      c.res = onError(thrown, c);
    }
  });
  // No HSTS: whoever puts TLS in front decides that for the whole host.
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

  app.route('/', createEnqueueRoutes(context));
  app.route('/', createJobRoutes(context));
  app.route('/', createQueueRoutes(context));
  app.route('/', createDeadRoutes(context));
  app.route('/', createSearchRoutes(context, readiness));
  app.route('/', createProductRoutes(context, readiness));
  app.route('/', createHealthRoutes(context, readiness));
  app.route(
    '/',
    createPageRoutes(() => app),
  );
  return app;
}

const PROBES = new Set(['/livez', '/readyz', '/health']);

/** One line a request. The query is left out: who calls may have put anything there. */
function logAccess({ clock, logger }: Context): MiddlewareHandler<ApiEnv> {
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

/** Answers may load and frame nothing, in a browser that is shown one; a page brings its own policy. */
const limitContent: MiddlewareHandler<ApiEnv> = async (c, next) => {
  await next();
  if (c.res.headers.has('Content-Security-Policy')) return;
  c.header('Content-Security-Policy', "default-src 'none'; frame-ancestors 'none'");
};

const SAFE_METHODS = new Set(['GET', 'HEAD', 'OPTIONS']);

/**
 * A page of another site can make a browser send forms and empty posts to a server on the same machine. Browsers
 * say where such a request comes from; programs say nothing, and pass.
 */
const refuseOtherSites: MiddlewareHandler<ApiEnv> = async (c, next) => {
  if (!SAFE_METHODS.has(c.req.method)) {
    const origin = c.req.header('origin');
    const foreign = origin !== undefined && URL.parse(origin)?.host !== new URL(c.req.url).host;
    if (foreign || c.req.header('sec-fetch-site') === 'cross-site') {
      throw new VitrineError('cross_origin_refused', 'The request comes from a page of another site.');
    }
  }
  await next();
};
