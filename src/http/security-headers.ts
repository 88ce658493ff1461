import type { MiddlewareHandler } from 'hono';
import { secureHeaders } from 'hono/secure-headers';
import type { ApiEnv } from '../routing/router.ts';

/**
 * For every answer: browsers take it for what it says it is, keep it from other sites, and load or frame nothing for
 * it; pages have a policy of their own. The others mean nothing on data, and each costs every answer time.
 */
export const limitContent: MiddlewareHandler<ApiEnv> = async (c, next) => {
  await next();
  // Not c.header: on a finished response that makes a stream of its body, which takes longer than all else here.
  const { headers } = c.res;
  headers.set('X-Content-Type-Options', 'nosniff');
  headers.set('Cross-Origin-Resource-Policy', 'same-origin');
  if (headers.has('Content-Security-Policy')) return;
  headers.set('Content-Security-Policy', "default-src 'none'; frame-ancestors 'none'");
};

/** For pages: what browsers read on documents alone. */
export const limitPage: MiddlewareHandler<ApiEnv> = secureHeaders({
  // The proxy that terminates TLS decides that for the whole host.
  strictTransportSecurity: false,
});
