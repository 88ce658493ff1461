import { randomUUIDv7 } from 'node:crypto';
import type { Context, MiddlewareHandler, NotFoundHandler } from 'hono';
import { methodNotAllowed } from 'hono/method-not-allowed';
import { requestId } from 'hono/request-id';
import type { Decoder } from '../../models/decoding/decoder.ts';
import type { Embedder } from '../../models/embedder.ts';
import type { Config } from '../config/config.ts';
import { VitrineError } from '../errors/vitrine-error.ts';
import { createFeedRoutes } from '../feeds/routes.ts';
import type { ImageSource } from '../images/port.ts';
import { createDeadLetterRoutes } from '../jobs/dead-letter-routes.ts';
import { createEnqueueRoutes } from '../jobs/enqueue-routes.ts';
import { createJobRoutes } from '../jobs/job-routes.ts';
import { createQueueRoutes } from '../jobs/queue-routes.ts';
import { createQueueMonitor, type QueueMonitor } from '../monitor/monitor.ts';
import { createMonitorRoutes } from '../monitor/routes.ts';
import type { Clock } from '../observability/clock.ts';
import type { Logger } from '../observability/logger.ts';
import { createProductRoutes } from '../products/routes.ts';
import { createThumbnailRoutes } from '../products/thumbnail-routes.ts';
import { createErrorHandler, toProblemResponse } from '../routing/problem.ts';
import { type ApiEnv, type ApiRouter, createRouter } from '../routing/router.ts';
import { createSampleRoutes } from '../samples/routes.ts';
import { createSearchRoutes } from '../search/routes.ts';
import type { ThumbnailCache } from '../thumbnails/cache.ts';
import type { VectorStore } from '../vectors/port.ts';
import { createWebhookRoutes } from '../webhooks/routes.ts';
import { authenticate } from './access/authenticate.ts';
import { createClientAddresses, toAddressGroup } from './access/client-address.ts';
import { checkHost } from './access/host.ts';
import { type Keyring, openKeyring } from './access/keyring.ts';
import { createRateLimiter, limitRate, type SharedCounts } from './access/rate-limit.ts';
import { createSessionRoutes } from './access/session-routes.ts';
import { createSessions } from './access/sessions.ts';
import { createDashboardRoutes } from './dashboard-routes.ts';
import { type ApiQueue, createHealthRoutes } from './health.ts';
import { createPageRoutes } from './pages.ts';
import { createReadiness, type Readiness } from './readiness.ts';
import { limitContent } from './security-headers.ts';
import { createSettingsRoutes } from './settings-routes.ts';

/** What the API is made of. */
export interface ApiParts {
  readonly config: Config;
  readonly logger: Logger;
  readonly clock: Clock;
  readonly queue: ApiQueue;
  readonly store: VectorStore;
  readonly embedder: Embedder;
  readonly images: ImageSource;
  readonly decoder: Decoder;
  readonly thumbnails: ThumbnailCache;
}

/** What a server shares with its app. */
export interface ServerParts {
  readonly readiness: Readiness;
  readonly keyring: Keyring;
  /** Null: this process counts the requests of its clients alone. */
  readonly sharedCounts: SharedCounts | null;
  readonly monitor: QueueMonitor;
}

/** The whole HTTP API without a socket: `app.request(path)` answers as the server would. */
export function createApp(
  context: ApiParts,
  {
    readiness = createReadiness(context),
    keyring = openKeyring(context.config.access, context.logger),
    sharedCounts = null,
    monitor = createQueueMonitor(context),
  }: Partial<ServerParts> = {},
): ApiRouter {
  const { config, logger, clock, queue, store, embedder, images, decoder, thumbnails } = context;
  const { access } = config;
  const addresses = createClientAddresses(access);
  const sessions = createSessions(keyring, access.session, () => clock.now());
  const parts: ApiParts = {
    config,
    logger,
    clock,
    queue,
    store,
    embedder,
    images,
    decoder,
    thumbnails,
  };
  const app = createRouter();
  const onError = createErrorHandler(logger);
  app.use(requestId({ limitLength: 128, generator: () => randomUUIDv7() }));
  app.use(logAccess(parts, onError));
  app.use(limitContent);
  if (!keyring.isRequired) app.use(checkHost(access.publicUrl, (path) => PROBES.has(path)));
  const toLimiter = (name: string, limit: number) =>
    createRateLimiter({ name, limit, shared: sharedCounts, clock, logger });
  if (access.rateLimits.perAddress > 0) {
    const limiter = toLimiter('address', access.rateLimits.perAddress);
    app.use(
      limitRate('address', limiter, (c) => {
        const address = PROBES.has(c.req.path) ? undefined : addresses.of(c);
        return address && toAddressGroup(address);
      }),
    );
  }
  app.use(authenticate(keyring, sessions));
  if (access.rateLimits.perKey > 0 && keyring.isRequired) {
    const limiter = toLimiter('key', access.rateLimits.perKey);
    app.use(limitRate('key', limiter, (c) => c.get('caller').name));
  }
  app.use(refuseOtherSites(access.publicUrl));
  app.onError(onError);
  app.notFound(answerNotFound(app));

  const { stopping, prepare, prepareStore } = readiness;
  app.route('/', createEnqueueRoutes({ ...parts, stopping }));
  app.route('/', createJobRoutes(parts));
  app.route('/', createQueueRoutes(parts));
  app.route('/', createDeadLetterRoutes(parts));
  app.route('/', createMonitorRoutes({ monitor, stopping }));
  app.route('/', createWebhookRoutes(parts));
  app.route('/', createSearchRoutes({ ...parts, prepare }));
  app.route('/', createFeedRoutes());
  app.route('/', createSampleRoutes());
  app.route('/', createProductRoutes({ ...parts, prepareStore }));
  app.route('/', createThumbnailRoutes({ ...parts, prepareStore }));
  app.route('/', createHealthRoutes(parts, readiness));
  app.route('/', createSettingsRoutes(config));
  app.route('/', createSessionRoutes({ keyring, sessions, addresses, publicUrl: access.publicUrl }));
  app.route('/', createDashboardRoutes());
  app.route(
    '/',
    createPageRoutes(() => app, keyring.isRequired),
  );
  return app;
}

const PROBES = new Set(['/livez', '/readyz', '/health']);

/**
 * One line per request. The query is left out: callers may have put anything there.
 * @param onError also gets what Hono's own handler doesn't: the reason of an aborted request, which is text
 */
function logAccess(
  { clock, logger }: Pick<ApiParts, 'clock' | 'logger'>,
  onError: (thrown: unknown, c: Context<ApiEnv>) => Response,
): MiddlewareHandler<ApiEnv> {
  return async (c, next) => {
    const from = clock.monotonic();
    try {
      await next();
    } catch (thrown) {
      c.res = onError(thrown, c);
    }
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

/** 404, or 405 where something else is at the address. */
function answerNotFound(app: ApiRouter): NotFoundHandler<ApiEnv> {
  const checkMethod = methodNotAllowed({
    app,
    onMethodNotAllowed: (c, methods) => {
      c.header('Allow', methods.join(', '));
      return toProblemResponse(c, new VitrineError('method_not_allowed', `Not with ${c.req.method}.`));
    },
  });
  return async (c) => {
    await checkMethod(c, async () => {
      c.res = toProblemResponse(c, new VitrineError('route_not_found', 'Nothing is at this address.'));
    });
    return c.res;
  };
}

const SAFE_METHODS = new Set(['GET', 'HEAD', 'OPTIONS']);

/**
 * A page of another site can make a browser send requests to a server on the same machine. Browsers say where a request
 * comes from, whatever its body; programs say nothing.
 */
function refuseOtherSites(publicUrl: string | undefined): MiddlewareHandler<ApiEnv> {
  const publicHost = publicUrl === undefined ? undefined : new URL(publicUrl).host;
  const isOwn = (c: Context<ApiEnv>): boolean => {
    const site = c.req.header('sec-fetch-site');
    if (site === 'same-origin' || site === 'none') return true;
    const origin = c.req.header('origin');
    if (origin === undefined) return site === undefined;
    // A proxy that terminates TLS changes the scheme, and may change the host.
    const host = URL.parse(origin)?.host;
    return host !== undefined && (host === new URL(c.req.url).host || host === publicHost);
  };
  return (c, next) => {
    if (!SAFE_METHODS.has(c.req.method) && !isOwn(c)) {
      throw new VitrineError('cross_origin_refused', 'The request comes from a page of another site.');
    }
    return next();
  };
}
