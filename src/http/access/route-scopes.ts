import type { Scope } from '../../config/scopes.ts';

/**
 * What a key needs for each route: one of the scopes; `public`: none. `admin` has all scopes. A route that is missing
 * here needs `admin`, and fails a test.
 */
export const ROUTE_SCOPES: Readonly<Record<string, 'public' | readonly Scope[]>> = {
  'GET /': 'public',
  'GET /dashboard/:version/:file{.+}': 'public',
  'GET /docs': 'public',
  'GET /docs/init.js': 'public',
  'GET /docs/pages.css': 'public',
  'GET /docs/swagger-ui.css': 'public',
  'GET /docs/swagger-ui-bundle.js': 'public',
  'GET /errors': 'public',
  'GET /openapi.json': 'public',
  'GET /livez': 'public',
  'GET /readyz': 'public',
  'GET /health': ['read'],
  'GET /settings': ['admin'],
  // They check the key themselves.
  'GET /session': 'public',
  'POST /session': 'public',
  'DELETE /session': 'public',

  'GET /samples': ['enqueue'],
  'POST /catalog/preview': ['enqueue'],
  'POST /queue/enqueue': ['enqueue'],
  'POST /queue/enqueue/batch': ['enqueue'],
  'POST /queue/jobs/:job_id/retry': ['admin'],
  'POST /queue/jobs/:job_id/cancel': ['admin'],
  // Jobs name their workers, and those their hosts.
  'GET /queue/status/:job_id': ['read'],
  'GET /queue/status': ['read'],
  'GET /queue/jobs': ['read'],
  'GET /queue/jobs/:job_id': ['read'],
  'GET /queue/stats': ['read'],
  'GET /queue/history': ['read'],
  'GET /events': ['read'],
  'GET /queue/workers': ['read'],
  'GET /queue/active': ['read'],
  'GET /queue/dead': ['read'],
  'GET /queue/dead/export': ['read'],
  'POST /queue/dead/redrive': ['admin'],
  'DELETE /queue/dead': ['admin'],
  'POST /queue/flush': ['admin'],
  'POST /queue/cleanup': ['admin'],
  'POST /queue/pause': ['admin'],
  'POST /queue/resume': ['admin'],

  'GET /webhooks/deliveries': ['read'],

  'POST /search': ['search'],
  'GET /products': ['read', 'search'],
  'GET /products/duplicates': ['read'],
  'GET /products/:product_id': ['read', 'search'],
  'GET /products/:product_id/similar': ['read', 'search'],
  'GET /products/:product_id/images/:image_id/thumbnail': ['read', 'search'],
  'PATCH /products/:product_id': ['admin'],
  'DELETE /products/:product_id/images/:image_id': ['admin'],
  'DELETE /products/:product_id': ['admin'],
};

export function toRouteScopes(method: string, path: string): 'public' | readonly Scope[] {
  return ROUTE_SCOPES[`${method} ${path}`] ?? ['admin'];
}
