import type { z } from '@hono/zod-openapi';
import { type Config, parseConfig } from '../config/config.ts';
import type { Environment } from '../config/env.ts';
import type { Context } from '../context.ts';
import { ERRORS, type ErrorCode } from '../errors/error-table.ts';
import { VitrineError } from '../errors/vitrine-error.ts';
import { health } from '../http/health-schema.ts';

/** Speaks to the HTTP API: of a server that runs, or of the same application inside this process. */
export interface Client extends AsyncDisposable {
  /** The server's address; null when the application runs in this process. */
  readonly address: string | null;
  readonly config: Config;
  /** What the application in this process is made of; null when a server answers. */
  readonly context: Context | null;
  /**
   * The answer's body, checked by its schema.
   * @throws VitrineError the server's own problem, or `internal_error` when it can't be reached
   */
  call<S extends z.ZodType>(schema: S, path: string, request?: ClientRequest): Promise<z.infer<S>>;
  /** The raw answer, for bodies that are streamed. */
  open(path: string, request?: ClientRequest): Promise<Response>;
}

export interface ClientRequest {
  readonly method?: 'GET' | 'POST' | 'DELETE';
  /** Sent as JSON. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface ClientOptions {
  /** Given by name: it must answer. */
  readonly server: string | undefined;
  readonly environment: Environment;
}

type Send = (url: string, init: RequestInit) => Promise<Response>;

/** How long a server may take to say that it is one. */
const PROBE_MS = 3_000;
const CALL_MS = 120_000;

/**
 * The server that was named or that HOST and PORT lead to; where none runs, the application in this process, on
 * the same queue and vector store as a server would have.
 * @throws VitrineError `invalid_configuration`, or `internal_error` when the named server doesn't answer
 */
export async function openClient({ server, environment }: ClientOptions): Promise<Client> {
  const config = parseConfig(environment);
  const address = toAddress(server, config);
  if (await isVitrine(address)) return createClient(address, config, null, fetch);
  if (server !== undefined) {
    throw new VitrineError('internal_error', `No Vitrine server answers at ${address}.`, {
      suggestion: 'Start one with `vitrine serve`, or correct --server.',
    });
  }
  return openInProcess(environment);
}

/**
 * @param ownFolders also readable by path, beside IMAGE_ROOTS
 * @throws VitrineError `invalid_configuration` and what createContext throws
 */
export async function openInProcess(
  environment: Environment,
  ownFolders: readonly string[] = [],
): Promise<Client> {
  const [{ createContext }, { createApp }] = await Promise.all([
    import('../context.ts'),
    import('../http/app.ts'),
  ]);
  // Its log lines would stand between what the command prints; failures reach it as answers anyway.
  const config = addImageRoots(parseConfig({ ...environment, LOG_LEVEL: 'silent' }), ownFolders);
  const context = await createContext(config);
  const app = createApp(context);
  const send: Send = async (url, init) => app.fetch(new Request(url, init));
  return createClient('http://in-process', config, context, send);
}

/** The settings with more folders that images may be read from. */
export function addImageRoots(config: Config, folders: readonly string[]): Config {
  return { ...config, images: { ...config.images, roots: [...config.images.roots, ...folders] } };
}

function createClient(base: string, config: Config, context: Context | null, send: Send): Client {
  const open = async (path: string, { method = 'GET', body, headers }: ClientRequest = {}) => {
    const response = await send(`${base}${path}`, {
      method,
      headers: { ...headers, ...(body === undefined ? {} : { 'Content-Type': 'application/json' }) },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.timeout(CALL_MS),
    }).catch((cause: unknown) => {
      throw unreachable(base, cause);
    });
    if (!response.ok) throw await toError(response, base);
    return response;
  };
  return {
    address: context === null ? base : null,
    config,
    context,
    open,
    async call(schema, path, request) {
      const response = await open(path, request);
      const parsed = schema.safeParse(await response.json());
      if (parsed.success) return parsed.data;
      throw new VitrineError('internal_error', `The server at ${base} gave an answer of another shape.`, {
        suggestion: 'Use the command of the same version as the server.',
      });
    },
    async [Symbol.asyncDispose]() {
      await context?.[Symbol.asyncDispose]();
    },
  };
}

function toAddress(server: string | undefined, config: Config): string {
  if (server !== undefined) {
    if (URL.canParse(server) && /^https?:$/.test(new URL(server).protocol)) return server.replace(/\/+$/, '');
    throw new VitrineError(
      'invalid_request',
      '--server must be a URL that begins with http:// or https://.',
      {
        suggestion: 'For example --server http://127.0.0.1:8000.',
      },
    );
  }
  const host = config.host === '0.0.0.0' ? '127.0.0.1' : config.host === '::' ? '::1' : config.host;
  return `http://${host.includes(':') ? `[${host}]` : host}:${config.port}`;
}

/** True when what answers there is Vitrine, in whatever health. */
export async function isVitrine(address: string): Promise<boolean> {
  try {
    const response = await fetch(`${address}/health`, { signal: AbortSignal.timeout(PROBE_MS) });
    return health.safeParse(await response.json()).success;
  } catch {
    return false;
  }
}

function unreachable(address: string, cause: unknown): VitrineError {
  return new VitrineError('internal_error', `The server at ${address} does not answer any more.`, {
    cause,
    suggestion: 'See whether it still runs; its log tells why it ended.',
  });
}

async function toError(response: Response, address: string): Promise<VitrineError> {
  const problem: unknown = await response.json().catch(() => null);
  const fields = typeof problem === 'object' && problem !== null ? problem : {};
  const code = 'code' in fields && isErrorCode(fields.code) ? fields.code : 'internal_error';
  const detail =
    'detail' in fields && typeof fields.detail === 'string'
      ? fields.detail
      : `The server at ${address} answered with status ${response.status}.`;
  const retryAfter = Number(response.headers.get('retry-after') ?? Number.NaN);
  return new VitrineError(code, detail, {
    ...('suggestion' in fields && typeof fields.suggestion === 'string' && { suggestion: fields.suggestion }),
    ...(Number.isFinite(retryAfter) && { retryAfterMs: retryAfter * 1_000 }),
  });
}

const isErrorCode = (code: unknown): code is ErrorCode =>
  typeof code === 'string' && Object.hasOwn(ERRORS, code);
