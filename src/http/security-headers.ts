import type { MiddlewareHandler } from 'hono';
import { secureHeaders } from 'hono/secure-headers';
import type { ApiEnv } from '../routing/router.ts';

/**
 * For every answer: browsers take it for what it says it is, keep it from other sites, and load or frame nothing for
 * it; pages have a policy of their own. The others mean nothing on data, and each costs every answer time.
 */
export const limitContent: MiddlewareHandler<ApiEnv> = (c, next) => {
  c.header('X-Content-Type-Options', 'nosniff');
  c.header('Cross-Origin-Resource-Policy', 'same-origin');
  c.header('Content-Security-Policy', "default-src 'none'; frame-ancestors 'none'");
  return next();
};

/** For pages: what browsers read on documents alone. */
export const limitPage: MiddlewareHandler<ApiEnv> = secureHeaders({
  // The proxy that terminates TLS decides that for the whole host.
  strictTransportSecurity: false,
});
