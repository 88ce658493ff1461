import type { Context, MiddlewareHandler } from 'hono';
import { getCookie } from 'hono/cookie';
import { matchedRoutes } from 'hono/route';
import { VitrineError } from '../../errors/vitrine-error.ts';
import { ANYONE, type Caller, NOBODY, toCaller } from '../../routing/caller.ts';
import type { ApiEnv } from '../../routing/router.ts';
import type { Keyring } from './keyring.ts';
import { toRouteScopes } from './route-scopes.ts';
import type { Sessions } from './sessions.ts';

export const SESSION_COOKIE = 'vitrine_session';

/** The API key that a request carries; undefined without one. */
export function toSentKey(c: Context): string | undefined {
  const bearer = /^Bearer +(.+)$/i.exec(c.req.header('authorization') ?? '')?.[1];
  return bearer ?? c.req.header('x-api-key');
}

/** Finds out who asks, and refuses what they may not do; `caller` then says what else they may. */
export function authenticate(keyring: Keyring, sessions: Sessions): MiddlewareHandler<ApiEnv> {
  return (c, next) => {
    if (!keyring.isRequired) {
      c.set('caller', ANYONE);
      return next();
    }
    const key = toSentKey(c);
    const caller = key === undefined ? toSessionCaller(c, sessions) : toKeyCaller(keyring, key);
    c.set('caller', caller ?? NOBODY);
    const scopes = toNeededScopes(c);
    if (scopes === 'public') return next();
    if (caller === null) throw toUnauthorized(c, key);
    if (scopes.some((scope) => caller.scopes.has(scope))) return next();
    const list = scopes.join(' or ');
    c.header('WWW-Authenticate', `Bearer error="insufficient_scope", scope="${scopes.join(' ')}"`);
    throw new VitrineError('scope_missing', `The key ${caller.name} does not have the scope ${list}.`);
  };
}

function toKeyCaller(keyring: Keyring, key: string): Caller | null {
  const entry = keyring.find(key);
  return entry && toCaller(entry);
}

function toSessionCaller(c: Context, sessions: Sessions): Caller | null {
  const session = sessions.verify(getCookie(c, SESSION_COOKIE) ?? '');
  return session && toCaller(session.key);
}

/** The answer to a request without a key, or with one that isn't known. */
export function toUnauthorized(c: Context, key: string | undefined): VitrineError {
  c.header('WWW-Authenticate', 'Bearer realm="vitrine"');
  if (key !== undefined) return new VitrineError('api_key_invalid', 'The server does not know this API key.');
  return getCookie(c, SESSION_COOKIE) === undefined
    ? new VitrineError('api_key_required', 'The request has no API key.')
    : new VitrineError('api_key_required', 'The session has ended.', {
        suggestion: 'Sign in again: POST /session with an API key.',
      });
}

/** Nothing for an address or a method that isn't there: that is answered 404 or 405. */
function toNeededScopes(c: Context) {
  const route = matchedRoutes(c).find(({ method }) => method !== 'ALL');
  return route === undefined ? 'public' : toRouteScopes(route.method, route.path);
}
