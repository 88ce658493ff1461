import { OpenAPIHono, type RouteConfig, type RouteHandler } from '@hono/zod-openapi';
import type { RequestIdVariables } from 'hono/request-id';
import type { Caller } from './caller.ts';
import { invalidRequest, toFaults } from './faults.ts';

export interface ApiEnv {
  Variables: RequestIdVariables & { readonly caller: Caller };
}

export type ApiRouter = OpenAPIHono<ApiEnv>;

/** An empty router that reports faulty path, query and header parameters like faulty bodies. */
export function createRouter(): ApiRouter {
  return new OpenAPIHono<ApiEnv>({
    defaultHook: (result) => {
      if (!result.success) throw invalidRequest(toFaults(result.error.issues, []));
    },
  });
}

/**
 * Adds a route whose handler reads and parses body and headers itself, with the schemas that its document is made of.
 * The router's own parser can't take JSON or a form on one route, accepts JSON that `parseJson` refuses, and copies all
 * headers to find one.
 */
export function addBodyRoute<Route extends RouteConfig>(
  routes: ApiRouter,
  route: Route,
  handler: RouteHandler<Route, ApiEnv>,
): void {
  routes.openAPIRegistry.registerPath(route);
  const { body: _, headers: __, ...request } = route.request ?? {};
  routes.openapi({ ...route, hide: true, request } as Route, handler);
}
