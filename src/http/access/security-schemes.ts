import type { ApiRouter } from '../../routing/router.ts';
import { SESSION_COOKIE } from './authenticate.ts';
import { toRouteScopes } from './route-scopes.ts';

type Document = ReturnType<ApiRouter['getOpenAPI31Document']>;

const SCHEMES = {
  bearer: { type: 'http', scheme: 'bearer', description: 'An API key of `vitrine keys create`.' },
  header: { type: 'apiKey', in: 'header', name: 'X-API-Key' },
  session: { type: 'apiKey', in: 'cookie', name: SESSION_COOKIE, description: 'Of `POST /session`.' },
} as const;

const METHODS = ['get', 'post', 'put', 'patch', 'delete'] as const;

/** The document with what each operation needs. Where no key is needed, nothing is one of the ways. */
export function withSecurity(document: Document, needsKey: boolean): Document {
  const paths = Object.entries(document.paths ?? {}).map(([path, item]) => {
    const pattern = path.replaceAll(/\{(\w+)\}/g, ':$1');
    const operations = METHODS.flatMap((method) => {
      const operation = item[method];
      const scopes = toRouteScopes(method.toUpperCase(), pattern);
      if (operation === undefined || scopes === 'public') return [];
      const ways = scopes.flatMap((scope) => Object.keys(SCHEMES).map((scheme) => ({ [scheme]: [scope] })));
      return [[method, { ...operation, security: needsKey ? ways : [{}, ...ways] }] as const];
    });
    return [path, { ...item, ...Object.fromEntries(operations) }] as const;
  });
  const components = { ...document.components, securitySchemes: SCHEMES };
  return { ...document, components, paths: Object.fromEntries(paths) };
}
