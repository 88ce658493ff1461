import { QdrantClient } from '@qdrant/js-client-rest';
import { Agent, type Dispatcher } from 'undici';
import { toRetryAfterMs } from '../../errors/retry-after.ts';
import { VitrineError } from '../../errors/vitrine-error.ts';
import type { Clock } from '../../observability/clock.ts';
import type { Logger } from '../../observability/logger.ts';

export interface QdrantConnectionSettings {
  /** `http://host:port`, with a path before the API's own where a proxy needs one. Default port: 6333. */
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
  /** Statuses that answer the question, such as 404 for a collection that isn't there: the call returns undefined. */
  readonly accept?: readonly number[];
  /** Throws when the result isn't good enough; after `store_unavailable` the request is sent again. */
  readonly check?: (result: T) => void;
  /** A single request with this deadline, instead of retries until the connection's own. */
  readonly onceWithinMs?: number;
}

export interface QdrantConnection extends AsyncDisposable {
  /**
   * Sends a request until it is answered: connection errors, timeouts, 408, 429 and 5xx are retried with backoff and
   * jitter, and no sooner than `Retry-After` says. So the request must be one that may be repeated.
   * @param what names the request in the log
   * @throws VitrineError `store_unavailable`, `store_rejected`
   */
  call<T>(what: string, send: Send<T>, options?: CallOptions<T>): Promise<T | undefined>;
  /**
   * A request whose answer is large. The client looks at every number of an answer, because it may be a BigInt, and
   * takes twenty times as long as JSON.parse alone: a third of a second for 512 vectors.
   * @param path behind the server's address
   */
  post<T>(path: string, body: object): Send<T>;
}

/** What the server sent, read below the client: the client keeps only the first digit of Retry-After. */
interface Answer {
  status: number | undefined;
  retryAfter: string | string[] | undefined;
}

const REQUESTS_THAT_FIT = 3;
const FIRST_BACKOFF_MS = 100;
const MAX_BACKOFF_MS = 5_000;
const CONNECTIONS = 16;
const MAX_SENTENCE_LENGTH = 500;

/** Nothing is sent before the first call. */
export function createQdrantConnection(settings: QdrantConnectionSettings): QdrantConnection {
  const { apiKey, clock, logger, timeoutMs } = settings;
  const agent = new Agent({ connections: CONNECTIONS });
  const closing = new AbortController();
  const server = toServer(settings.url, apiKey);
  const api = createApi(server);

  async function request<T>(
    send: Send<T>,
    answer: Answer,
    deadlineMs: number,
    check?: (result: T) => void,
  ): Promise<T> {
    const { data } = await send(api, {
      // The same interface from another copy of undici's types: Node's own, and the installed package's.
      dispatcher: observe(agent, answer) as unknown as NonNullable<RequestInit['dispatcher']>,
      signal: AbortSignal.any([closing.signal, AbortSignal.timeout(deadlineMs)]),
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
    async call(what, send, { accept = [], check, onceWithinMs } = {}) {
      const requestMs = onceWithinMs ?? Math.ceil(timeoutMs / REQUESTS_THAT_FIT);
      const lastStart = clock.monotonic() + (onceWithinMs === undefined ? timeoutMs - requestMs : 0);
      for (let attempt = 1; ; attempt += 1) {
        const answer: Answer = { status: undefined, retryAfter: undefined };
        try {
          return await request(send, answer, requestMs, check);
        } catch (thrown) {
          if (answer.status !== undefined && accept.includes(answer.status)) return undefined;
          const { error, mayPass } = toFailure(thrown, answer, apiKey, clock.now());
          const backoffMs = Math.min(FIRST_BACKOFF_MS * 2 ** (attempt - 1), MAX_BACKOFF_MS);
          const waitMs = Math.max(Math.round(backoffMs * (0.5 + Math.random())), error.retryAfterMs ?? 0);
          if (!mayPass || clock.monotonic() + waitMs > lastStart) throw error;
          logger?.warn({ error, what, attempt, waitMs }, 'Qdrant failed; trying again');
          await clock.sleep(waitMs, closing.signal);
        }
      }
    },
    post: (path, body) => async (_, options) => {
      const response = await fetch(`${server.url}${path}`, {
        ...options,
        method: 'POST',
        headers: { ...server.headers, 'content-type': 'application/json' },
        body: JSON.stringify(body),
      });
      const data = JSON.parse(await response.text());
      if (!response.ok) throw Object.assign(new Error(response.statusText), { data });
      return { data };
    },
    async [Symbol.asyncDispose]() {
      closing.abort();
      await agent.destroy();
    },
  };
}

interface Server {
  /** With the port and the path that a proxy needs, without a slash at its end. */
  readonly url: string;
  readonly headers: Readonly<Record<string, string>>;
}

const DEFAULT_PORT = 6333;

function toServer(url: string, apiKey: string | undefined): Server {
  const { protocol, hostname, pathname } = new URL(url);
  // URL takes a port that is the scheme's default for none.
  const port = /^[^/]*\/\/[^/]*:(\d+)(?:\/|$)/.exec(url)?.[1] ?? DEFAULT_PORT;
  return {
    url: `${protocol}//${hostname}:${port}${pathname.replace(/\/$/, '')}`,
    headers: {
      // Qdrant writes a compressed answer in parts, and the second one waits 40 ms for the client's acknowledgement.
      'accept-encoding': 'identity',
      ...(apiKey === undefined ? {} : { 'api-key': apiKey }),
    },
  };
}

/**
 * The client's generated functions. Its own timeout, which can't differ by request, is off, and so are its
 * compatibility check and its warnings, which go to the console.
 */
function createApi({ url, headers }: Server): Api {
  const { protocol, hostname, port, pathname } = new URL(url);
  const client = new QdrantClient({
    url: `${protocol}//${hostname}`,
    port: Number(port || (protocol === 'https:' ? 443 : 80)),
    // The client ignores the URL's path.
    ...(pathname === '/' ? {} : { prefix: pathname }),
    headers,
    timeout: Number.POSITIVE_INFINITY,
    checkCompatibility: false,
  });
  return client.api();
}

/** The connections, noting each answer's status and Retry-After. */
function observe(agent: Agent, answer: Answer): Dispatcher {
  return agent.compose((dispatch) => (options, handler) => {
    return dispatch(options, {
      onRequestStart: (controller, context) => handler.onRequestStart?.(controller, context),
      onRequestUpgrade: (...upgrade) => handler.onRequestUpgrade?.(...upgrade),
      onResponseStart(controller, status, headers, message) {
        answer.status = status;
        answer.retryAfter = headers['retry-after'];
        handler.onResponseStart?.(controller, status, headers, message);
      },
      onResponseData: (controller, chunk) => handler.onResponseData?.(controller, chunk),
      onResponseEnd: (controller, trailers) => handler.onResponseEnd?.(controller, trailers),
      onResponseError: (controller, error) => handler.onResponseError?.(controller, error),
    });
  });
}

interface Failure {
  readonly error: VitrineError;
  /** True when the same request may succeed in a moment. */
  readonly mayPass: boolean;
}

/** What a failed request means, from what the server answered or why it didn't. */
function toFailure(thrown: unknown, answer: Answer, apiKey: string | undefined, nowMs: number): Failure {
  if (thrown instanceof VitrineError) return { error: thrown, mayPass: thrown.code === 'store_unavailable' };
  const { status } = answer;
  if (status === undefined) return toConnectionFailure(thrown);
  if (status === 401 || status === 403) {
    // Not `store_rejected`: the jobs are fine, and would all be given up for one wrong setting.
    const error = new VitrineError('store_unavailable', 'Qdrant refused the API key.', { cause: thrown });
    return { error, mayPass: false };
  }
  if (status === 408 || status === 429 || status >= 500 || status < 300) {
    const retryAfterMs = toRetryAfterMs(answer.retryAfter, nowMs);
    const error = new VitrineError('store_unavailable', `Qdrant answered with HTTP status ${status}.`, {
      cause: thrown,
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    });
    return { error, mayPass: true };
  }
  const sentence = toSentence(thrown, apiKey) ?? `HTTP status ${status}`;
  const error = new VitrineError('store_rejected', `Qdrant refused: ${sentence}`, { cause: thrown });
  return { error, mayPass: false };
}

function toConnectionFailure(thrown: unknown): Failure {
  if (thrown instanceof DOMException && thrown.name === 'TimeoutError') {
    const error = new VitrineError('store_unavailable', 'Qdrant did not answer in time.', { cause: thrown });
    return { error, mayPass: true };
  }
  if (thrown instanceof DOMException && thrown.name === 'AbortError') {
    const error = new VitrineError('store_unavailable', 'The store is closed.', { cause: thrown });
    return { error, mayPass: false };
  }
  const error = new VitrineError('store_unavailable', 'No connection to Qdrant.', {
    cause: thrown instanceof Error && thrown.cause instanceof Error ? thrown.cause : thrown,
  });
  return { error, mayPass: true };
}

/** The server's own words, without the key and not a page of them. */
function toSentence(thrown: unknown, apiKey: string | undefined): string | undefined {
  const data = typeof thrown === 'object' && thrown !== null && 'data' in thrown ? thrown.data : undefined;
  const text = typeof data === 'string' ? data : toErrorField(data);
  if (text === undefined || text.trim() === '') return undefined;
  const safe = apiKey === undefined || apiKey === '' ? text : text.replaceAll(apiKey, '***');
  return safe.length > MAX_SENTENCE_LENGTH ? `${safe.slice(0, MAX_SENTENCE_LENGTH)} …` : safe;
}

/** `{status: {error: "…"}}` is how Qdrant reports. */
function toErrorField(data: unknown): string | undefined {
  if (typeof data !== 'object' || data === null || !('status' in data)) return undefined;
  const { status } = data;
  if (typeof status !== 'object' || status === null || !('error' in status)) return undefined;
  return typeof status.error === 'string' ? status.error : undefined;
}

/** For `check`: HTTP 200 is not done. An update that is only acknowledged may still fail, or be lost. */
export function assertCompleted(result: { readonly status: string }): void {
  if (result.status === 'completed') return;
  throw new VitrineError(
    'store_unavailable',
    `Qdrant reports the update as "${result.status}", not completed.`,
  );
}
