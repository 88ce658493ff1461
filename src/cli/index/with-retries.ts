import type { z } from '@hono/zod-openapi';
import pRetry from 'p-retry';
import { VitrineError } from '../../errors/vitrine-error.ts';
import type { Client, ClientRequest } from '../client.ts';

/** Waits of 0.25, 0.5, 1, 2, 4, 8 and 16 s: long enough for a server, a Redis or a Qdrant to be restarted. */
const RETRIES = { retries: 7, minTimeout: 250, factor: 2 };

/**
 * The client, but a call that may succeed later is repeated for half a minute. Only for calls that can be repeated. A
 * full queue is left to the caller, who knows how long to wait.
 */
export function withRetries(client: Client, signal: AbortSignal): Client {
  return {
    ...client,
    call: <Schema extends z.ZodType>(path: string, request?: ClientRequest) =>
      pRetry(() => client.call<Schema>(path, request), {
        ...RETRIES,
        signal,
        shouldRetry: ({ error }) =>
          error instanceof VitrineError && error.retryable && error.code !== 'queue_full',
      }),
  };
}
