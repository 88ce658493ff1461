import { z } from '@hono/zod-openapi';
import type { Context as HonoContext } from 'hono';
import { HTTPException } from 'hono/http-exception';
import type { ContentfulStatusCode } from 'hono/utils/http-status';
import { ERRORS, type ErrorCode } from '../errors/error-table.ts';
import { toVitrineError, VitrineError } from '../errors/vitrine-error.ts';
import type { Logger } from '../observability/logger.ts';
import type { ApiEnv } from './router.ts';

/** The one shape of every failure (RFC 9457). */
export const problem = z
  .object({
    type: z.string().openapi({ description: 'Where the code is explained.', example: '/errors#queue_full' }),
    title: z.string(),
    status: z.int().min(400).max(599),
    code: z.string().openapi({ example: 'queue_full' }),
    detail: z.string().openapi({ description: 'What went wrong this time.' }),
    suggestion: z.string().openapi({ description: 'What to do next.' }),
    instance: z.string().openapi({ description: 'The address that was asked.' }),
    request_id: z
      .string()
      .openapi({ description: "Also in the header X-Request-Id and in the server's log." }),
    faults: z
      .array(z.object({ path: z.string(), message: z.string() }))
      .optional()
      .openapi({ description: 'The faulty fields, where single ones can be named.' }),
  })
  .openapi('Problem');

const ANY_REQUEST = [
  'api_key_required',
  'api_key_invalid',
  'scope_missing',
  'cross_origin_refused',
  'host_not_allowed',
  'rate_limited',
  'internal_error',
] as const;

/**
 * The failures of a route for its document, by HTTP status. The codes that any request can meet are added.
 * The type is empty on purpose: handlers throw failures, and return only what the route promises.
 */
export function problems(...codes: readonly ErrorCode[]): Record<never, never> {
  const all: readonly ErrorCode[] = [...codes, ...ANY_REQUEST];
  const byStatus = Map.groupBy(new Set(all), (code) => ERRORS[code].status);
  return Object.fromEntries(
    [...byStatus].map(([status, same]) => [
      status,
      {
        description: same.map((code) => `\`${code}\`: ${ERRORS[code].title}.`).join(' '),
        content: { 'application/problem+json': { schema: problem } },
      },
    ]),
  );
}

const WORTH_WAITING = new Set([429, 503]);
const DEFAULT_WAIT_MS = 5000;

/** As nginx logs it; no client ever sees it. */
const CLIENT_GONE = 499;

/** Every failure of every route ends here. */
export function createErrorHandler(logger: Logger) {
  return (thrown: unknown, c: HonoContext<ApiEnv>): Response => {
    // The client has gone: nobody reads the answer, and nothing here has failed.
    if (c.req.raw.signal.aborted) return new Response(null, { status: CLIENT_GONE });
    const error = thrown instanceof HTTPException ? fromHttpException(thrown) : toVitrineError(thrown);
    if (error.status >= 500) {
      logger.error(
        {
          request_id: c.get('requestId'),
          error: error.code === 'internal_error' ? (error.cause ?? error) : error,
        },
        'request failed',
      );
    }
    return toProblemResponse(c, error);
  };
}

export function toProblemResponse(c: HonoContext<ApiEnv>, error: VitrineError): Response {
  const body: z.infer<typeof problem> = {
    type: `/errors#${error.code}`,
    title: ERRORS[error.code].title,
    status: error.status,
    code: error.code,
    detail: error.message,
    suggestion: error.suggestion,
    instance: c.req.path,
    request_id: c.get('requestId'),
    ...(error.faults === undefined ? {} : { faults: [...error.faults] }),
  };
  const waitMs = error.retryAfterMs ?? (WORTH_WAITING.has(error.status) ? DEFAULT_WAIT_MS : undefined);
  if (waitMs !== undefined) c.header('Retry-After', String(Math.ceil(waitMs / 1000)));
  return c.body(JSON.stringify(body), error.status as ContentfulStatusCode, {
    'Content-Type': 'application/problem+json',
  });
}

/** What the framework's own middleware refuses. */
function fromHttpException(exception: HTTPException): VitrineError {
  if (exception.status === 403) {
    return new VitrineError('cross_origin_refused', 'The request comes from a page of another site.');
  }
  if (exception.status < 500) return new VitrineError('invalid_request', 'The request could not be read.');
  return new VitrineError('internal_error', ERRORS.internal_error.title, { cause: exception });
}
