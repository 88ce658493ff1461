import { QdrantClient } from '@qdrant/js-client-rest';
import { Agent, type Dispatcher } from 'undici';
import { VitrineError } from '../../errors/vitrine-error.ts';
import type { Clock } from '../../observability/clock.ts';
import type { Logger } from '../../observability/logger.ts';
import { toRetryDelayMs } from '../../queue/retry-policy.ts';
import { type Answer, toFailure } from './failure.ts';

export interface QdrantConnectionSettings {
  /** `http://host:port`, with a path before the API's own where a proxy needs one. Port 6333 unless it is named. */
  readonly url: string;
  readonly apiKey: string | undefined;
  /** The whole time a call may take, its retries included; a single request gets a third of it. */
  readonly timeoutMs: number;
  readonly clock: Clock;
  readonly logger: Logger | undefined;
}

type Api = ReturnType<QdrantClient['api']>;

/** One request; the options carry its deadline and its connections. */
export type Send<T> = (
  api: Api,
  options: RequestInit,
) => Promise<{ readonly data: { readonly result?: T | null } }>;

export interface CallOptions<T> {
  /** Statuses that answer the question, such as 404 for a collection that isn't there: the call gives undefined. */
  readonly accept?: readonly number[];
  /** Throws when the result isn't good enough; after `store_unavailable` the request is sent again. */
  readonly check?: (result: T) => void;
}

export interface QdrantConnection extends AsyncDisposable {
  /**
   * Sends a request until it is answered: connection errors, timeouts, 408, 429 and 5xx are tried again, with
   * backoff and jitter, and no sooner than `Retry-After` asks. So the request must be one that may be repeated.
   * @param what names the request in the log
   * @throws VitrineError `store_unavailable`, `store_rejected`
   */
  call<T>(what: string, send: Send<T>, options?: CallOptions<T>): Promise<T | undefined>;
}

const REQUESTS_THAT_FIT = 3;
const BACKOFF = { attempts: Number.POSITIVE_INFINITY, baseMs: 100, factor: 2, capMs: 5_000, jitter: 0.5 };
const CONNECTIONS = 16;

export function createQdrantConnection(settings: QdrantConnectionSettings): QdrantConnection {
  const { apiKey, clock, logger, timeoutMs } = settings;
  const requestMs = Math.ceil(timeoutMs / REQUESTS_THAT_FIT);
  const agent = new Agent({ connections: CONNECTIONS });
  const closing = new AbortController();
  const api = createApi(settings.url, apiKey);

  async function request<T>(send: Send<T>, answer: Answer, check?: (result: T) => void): Promise<T> {
    const { data } = await send(api, {
      // The same interface from another copy of undici's types: Node's own, and the installed package's.
      dispatcher: observe(agent, answer) as unknown as NonNullable<RequestInit['dispatcher']>,
      signal: AbortSignal.any([closing.signal, AbortSignal.timeout(requestMs)]),
      // A redirect would carry the API key to wherever it points.
      redirect: 'error',
    });
    if (data.result === undefined || data.result === null) {
      throw new VitrineError('store_unavailable', 'Qdrant answered without a result.');
    }
    check?.(data.result);
    return data.result;
  }

  return {
    async call(what, send, { accept = [], check } = {}) {
      const lastStart = clock.monotonic() + timeoutMs - requestMs;
      for (let tried = 1; ; tried += 1) {
        const answer: Answer = { status: undefined, retryAfter: undefined };
        try {
          return await request(send, answer, check);
        } catch (thrown) {
          if (answer.status !== undefined && accept.includes(answer.status)) return undefined;
          const { error, passing } = toFailure(thrown, answer, apiKey, clock.now());
          const waitMs = toRetryDelayMs(BACKOFF, tried, Math.random(), error.retryAfterMs);
          if (!passing || clock.monotonic() + waitMs > lastStart) throw error;
          logger?.warn({ error, what, tried, waitMs }, 'Qdrant failed; trying again');
          await clock.sleep(waitMs, closing.signal);
        }
      }
    },
    async [Symbol.asyncDispose]() {
      closing.abort();
      await agent.destroy();
    },
  };
}

/**
 * The client's generated functions. Its own timeout, which can't differ by request, is off, and so are its
 * compatibility check and its warnings, which go to the console.
 */
function createApi(url: string, apiKey: string | undefined): Api {
  const { pathname } = new URL(url);
  // Of a URL the client ignores the path, and takes a port that is its scheme's own for none.
  const port = /^[^/]*\/\/[^/]*:(\d+)(?:\/|$)/.exec(url)?.[1];
  const client = new QdrantClient({
    url: new URL(url).origin,
    ...(pathname === '/' ? {} : { prefix: pathname.replace(/\/$/, '') }),
    ...(port === undefined ? {} : { port: Number(port) }),
    ...(apiKey === undefined ? {} : { headers: { 'api-key': apiKey } }),
    timeout: Number.POSITIVE_INFINITY,
    checkCompatibility: false,
  });
  return client.api();
}

/** The connections, with the answer's status and Retry-After noted down as they pass. */
function observe(agent: Agent, answer: Answer): Dispatcher {
  return agent.compose((dispatch) => (options, handler) => {
    return dispatch(options, {
      onRequestStart: (controller, context) => handler.onRequestStart?.(controller, context),
      onRequestUpgrade: (...upgrade) => handler.onRequestUpgrade?.(...upgrade),
      onResponseStart(controller, status, headers, message) {
        const retryAfter = headers['retry-after'];
        answer.status = status;
        answer.retryAfter = Array.isArray(retryAfter) ? retryAfter[0] : retryAfter;
        handler.onResponseStart?.(controller, status, headers, message);
      },
      onResponseData: (controller, chunk) => handler.onResponseData?.(controller, chunk),
      onResponseEnd: (controller, trailers) => handler.onResponseEnd?.(controller, trailers),
      onResponseError: (controller, error) => handler.onResponseError?.(controller, error),
    });
  });
}
