import { readFile } from 'node:fs/promises';
import type { z } from '@hono/zod-openapi';
import { DEFAULT_HOST, DEFAULT_PORT } from '../config/address.ts';
import { toConfigurationError } from '../config/configuration-error.ts';
import { ERRORS, type ErrorCode } from '../errors/error-table.ts';
import { VitrineError } from '../errors/vitrine-error.ts';
import { type Answer, type SendOptions, send } from './http.ts';
import type { Terminal } from './terminal.ts';

/** Speaks to the HTTP API. */
export interface Client {
  /** Where the server is, for people. */
  readonly address: string;
  /**
   * The answer's body, of the type of the schema: `call<typeof jobView>`. It isn't checked, for loading the schemas
   * takes longer than the rest of a command.
   * @throws VitrineError the server's own problem, or `server_unreachable`
   */
  call<Schema extends z.ZodType>(path: string, request?: ClientRequest): Promise<z.infer<Schema>>;
  /** The raw answer, for bodies that are streamed. */
  open(path: string, request?: ClientRequest): Promise<Answer>;
}

/** Which server a command speaks to. */
export interface ServerOptions {
  readonly server?: string | undefined;
  /** Holds the API key, instead of VITRINE_API_KEY. */
  readonly keyFile?: string | undefined;
}

export interface ClientRequest {
  readonly method?: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  /** Sent as JSON. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

type Send = (url: string, options: SendOptions) => Promise<Answer>;

/** How long a server may take to say that it is alive. */
const PROBE_MS = 3_000;
const CALL_MS = 120_000;

/**
 * A client of the server that is named by --server, or by HOST and PORT. Whether one is there, the first call finds out.
 * @throws VitrineError `invalid_configuration`; `invalid_request` for a --key-file that can't be read
 */
export async function connectServer(
  { server, keyFile }: ServerOptions,
  { environment, signal }: Terminal,
): Promise<Client> {
  const { HOST, PORT } = environment;
  const address = toAddress(server, { host: HOST || DEFAULT_HOST, port: PORT || DEFAULT_PORT });
  const key = keyFile === undefined ? environment['VITRINE_API_KEY'] || undefined : await readKey(keyFile);
  return createClient(address, send, signal, key);
}

/** True when a server answers there, however well it is. */
export async function isAlive(address: string): Promise<boolean> {
  try {
    const signal = AbortSignal.timeout(PROBE_MS);
    const response = await send(`${address}/livez`, { method: 'GET', headers: {}, signal });
    const body: unknown = await response.json();
    return response.ok && typeof body === 'object' && body !== null && 'status' in body;
  } catch {
    return false;
  }
}

/** @throws VitrineError `invalid_request` for a --server that isn't a web address, `invalid_configuration` */
export function toAddress(
  server: string | undefined,
  { host, port }: { readonly host: string; readonly port: number | string },
): string {
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
  const reachable = host === '0.0.0.0' ? '127.0.0.1' : host === '::' ? '::1' : host;
  const address = `http://${reachable.includes(':') ? `[${reachable}]` : reachable}:${port}`;
  if (URL.canParse(address)) return address;
  throw toConfigurationError([{ path: 'HOST and PORT', message: 'must be a host and its port' }]);
}

async function readKey(file: string): Promise<string> {
  const text = await readFile(file, 'utf8').catch((cause: unknown) => {
    throw new VitrineError('invalid_request', `The key file ${file} can't be read.`, {
      cause,
      suggestion: 'Check the path and that you may read the file.',
    });
  });
  return text.trim();
}

/**
 * A client that sends its requests with `send`, until the signal is aborted.
 * @param key an API key, sent with every request
 */
export function createClient(address: string, send: Send, signal: AbortSignal, key?: string): Client {
  let hasAnswered = false;
  const open = async (path: string, { method = 'GET', body, headers }: ClientRequest = {}) => {
    const response = await send(`${address}${path}`, {
      method,
      headers: {
        ...(key !== undefined && { Authorization: `Bearer ${key}` }),
        ...headers,
        ...(body === undefined ? {} : { 'Content-Type': 'application/json' }),
      },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      signal: AbortSignal.any([signal, AbortSignal.timeout(CALL_MS)]),
    }).catch((cause: unknown) => {
      signal.throwIfAborted();
      if (!hasAnswered) throw toUnreachable(address, cause);
      throw new VitrineError('server_unreachable', `The server at ${address} no longer answers.`, {
        cause,
        suggestion: 'Check whether it still runs; its log says why it ended.',
      });
    });
    hasAnswered = true;
    if (!response.ok) throw await toError(response, address);
    return response;
  };
  return {
    address,
    open,
    async call<Schema extends z.ZodType>(path: string, request?: ClientRequest) {
      const response = await open(path, request);
      const body = await response.json().catch((cause: unknown) => {
        throw toUnreachable(address, cause);
      });
      return body as z.infer<Schema>;
    },
  };
}

const toUnreachable = (address: string, cause: unknown): VitrineError =>
  new VitrineError('server_unreachable', `No Vitrine server answers at ${address}.`, { cause });

async function toError(response: Answer, address: string): Promise<VitrineError> {
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
