import { OpenAPIHono } from '@hono/zod-openapi';
import type { RequestIdVariables } from 'hono/request-id';
import { invalidRequest, toFaults } from './faults.ts';

export interface ApiEnv {
  Variables: RequestIdVariables;
}

export type ApiRouter = OpenAPIHono<ApiEnv>;

/** An empty router whose faulty path and query parameters are told like faulty bodies. */
export function createRouter(): ApiRouter {
  return new OpenAPIHono<ApiEnv>({
    defaultHook: (result) => {
      if (!result.success) throw invalidRequest(toFaults(result.error.issues, []));
    },
  });
}
