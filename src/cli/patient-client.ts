import { setTimeout as sleep } from 'node:timers/promises';
import { VitrineError } from '../errors/vitrine-error.ts';
import type { Client } from './client.ts';

/** Long enough for a server, a Redis or a Qdrant to be restarted. */
const WAITS_MS = [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000];

/**
 * The client, but a call whose failure may pass is made again for half a minute. Only for calls that may be
 * repeated. A full queue is not waited for: how long that takes is known to the caller.
 */
export function toPatientClient(client: Client, signal: AbortSignal): Client {
  return {
    ...client,
    async call(schema, path, request) {
      for (const waitMs of WAITS_MS) {
        try {
          return await client.call(schema, path, request);
        } catch (error) {
          const mayPass = error instanceof VitrineError && error.retryable && error.code !== 'queue_full';
          if (!mayPass) throw error;
          await sleep(waitMs, undefined, { signal });
        }
      }
      return client.call(schema, path, request);
    },
  };
}
