import { createRoute, z } from '@hono/zod-openapi';
import { deleteCookie, getCookie, setCookie } from 'hono/cookie';
import { SCOPES } from '../../config/scopes.ts';
import { ANYONE, type Caller, toCaller } from '../../routing/caller.ts';
import { problems } from '../../routing/problem.ts';
import { type ApiRouter, createRouter } from '../../routing/router.ts';
import { instant } from '../../routing/schemas.ts';
import { SESSION_COOKIE, toSentKey, toUnauthorized } from './authenticate.ts';
import type { ClientAddresses } from './client-address.ts';
import type { Keyring } from './keyring.ts';
import type { Sessions } from './sessions.ts';

const sessionView = z
  .object({
    name: z.string().nullable().openapi({ description: 'Of the API key; null where none is needed.' }),
    scopes: z.array(z.enum(SCOPES)).openapi({ description: 'What may be done. With `admin`: everything.' }),
    expires_at: instant
      .nullable()
      .openapi({ description: 'When the session ends; null for a key that was sent itself.' }),
  })
  .openapi('Session');

const createSessionRoute = createRoute({
  method: 'post',
  path: '/session',
  tags: ['Session'],
  summary: 'Exchange an API key for a cookie',
  description:
    'For browsers, which can send no headers with images and event streams. The key is sent as for any other request. The cookie is HttpOnly and SameSite=Strict, and ends with its time or with its key.',
  responses: {
    200: { description: 'Signed in', content: { 'application/json': { schema: sessionView } } },
    ...problems('api_key_required', 'api_key_invalid'),
  },
});

const readSessionRoute = createRoute({
  method: 'get',
  path: '/session',
  tags: ['Session'],
  summary: 'Who asks, and what they may do',
  responses: {
    200: { description: 'The caller', content: { 'application/json': { schema: sessionView } } },
    ...problems('api_key_required', 'api_key_invalid'),
  },
});

const deleteSessionRoute = createRoute({
  method: 'delete',
  path: '/session',
  tags: ['Session'],
  summary: 'Remove the cookie',
  responses: { 204: { description: 'Signed out' }, ...problems() },
});

export interface SessionParts {
  readonly keyring: Keyring;
  readonly sessions: Sessions;
  readonly addresses: ClientAddresses;
  readonly publicUrl: string | undefined;
}

export function createSessionRoutes({ keyring, sessions, addresses, publicUrl }: SessionParts): ApiRouter {
  const routes = createRouter();
  const isPublicHttps = publicUrl !== undefined && new URL(publicUrl).protocol === 'https:';

  routes.openapi(createSessionRoute, (c) => {
    if (!keyring.isRequired) return c.json(toView(ANYONE, null), 200);
    const sent = toSentKey(c);
    const key = sent === undefined ? null : keyring.find(sent);
    if (key === null) throw toUnauthorized(c, sent);
    const { token, expiresAt } = sessions.create(key);
    setCookie(c, SESSION_COOKIE, token, {
      path: '/',
      httpOnly: true,
      sameSite: 'Strict',
      secure: isPublicHttps || addresses.isHttps(c),
      expires: new Date(expiresAt),
    });
    return c.json(toView(toCaller(key), expiresAt), 200);
  });

  routes.openapi(readSessionRoute, (c) => {
    if (!keyring.isRequired) return c.json(toView(ANYONE, null), 200);
    const caller = c.get('caller');
    const sent = toSentKey(c);
    if (caller.name === null) throw toUnauthorized(c, sent);
    const session = sent === undefined ? sessions.verify(getCookie(c, SESSION_COOKIE) ?? '') : null;
    return c.json(toView(caller, session?.expiresAt ?? null), 200);
  });

  routes.openapi(deleteSessionRoute, (c) => {
    deleteCookie(c, SESSION_COOKIE, { path: '/' });
    return c.body(null, 204);
  });

  return routes;
}

function toView({ name, scopes }: Caller, expiresAt: number | null): z.input<typeof sessionView> {
  return {
    name,
    scopes: [...scopes],
    expires_at: expiresAt === null ? null : new Date(expiresAt).toISOString(),
  };
}
