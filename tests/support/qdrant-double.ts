import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type Body, createDoubleCollection, type DoubleCollection } from './qdrant-double-collection.ts';
import { Refusal } from './qdrant-double-filter.ts';
import { apiDescription } from './qdrant-double-schema.ts';

/**
 * What may go wrong with a request: the connection is cut before it is handled (`reset`); nothing happens and
 * no answer comes (`silent`); it is handled but never answered (`late`), or half of the answer comes (`cut`); it is
 * only acknowledged, and then lost (`acknowledged`); or it is answered with a status, unhandled.
 */
export type Fault =
  | 'reset'
  | 'silent'
  | 'late'
  | 'cut'
  | 'acknowledged'
  | { readonly status: number; readonly headers?: Record<string, string>; readonly body?: string };

export interface SeenRequest {
  readonly method: string;
  readonly path: string;
  readonly query: string;
  readonly body: unknown;
  readonly headers: IncomingMessage['headers'];
}

export interface FaultOptions {
  readonly times?: number;
  readonly only?: (seen: SeenRequest) => boolean;
}

/** A small Qdrant 1.19 on loopback, never kinder than the real one, that checks each request and its own answers. */
export interface QdrantDouble extends AsyncDisposable {
  readonly url: string;
  readonly requests: SeenRequest[];
  /** Where requests or answers left Qdrant's API description. A test that finds any has found a mistake. */
  readonly violations: string[];
  /** Gives the fault to the next requests that `only` accepts. */
  fail(fault: Fault, options?: FaultOptions): void;
  /** Runs the action once, before the next request that `only` accepts is handled. */
  before(only: (seen: SeenRequest) => boolean, action: () => Promise<unknown>): void;
}

export interface QdrantDoubleSettings {
  readonly apiKey?: string;
  /** Of a double that was stopped, to start again where its clients look for it. */
  readonly port?: number;
  /** What it says its version is. */
  readonly version?: string;
}

const toUpdateResult = (query: string) => ({
  operation_id: 0,
  status: query.includes('wait=true') ? 'completed' : 'acknowledged',
});

function isAtLeast(version: string, major: number, minor: number): boolean {
  const [ownMajor = 0, ownMinor = 0] = version.split('.').map(Number);
  return ownMajor > major || (ownMajor === major && ownMinor >= minor);
}

const MAX_BYTES = 32 * 1024 * 1024;
const OPEN_PATHS = ['/', '/healthz', '/livez', '/readyz'];

export async function startQdrantDouble({
  apiKey,
  port = 0,
  version = '1.19.0',
}: QdrantDoubleSettings = {}): Promise<QdrantDouble> {
  const description = apiDescription();
  const collections = new Map<string, DoubleCollection>();
  const requests: SeenRequest[] = [];
  const violations: string[] = [];
  const hooks: { done: boolean; readonly only: (seen: SeenRequest) => boolean; run(): Promise<unknown> }[] =
    [];
  const faults: { readonly fault: Fault; left: number; readonly only: (seen: SeenRequest) => boolean }[] = [];

  function handle({ method, path, query, body }: SeenRequest, fault: Fault | undefined): unknown {
    const [, , encodedName = '', ...rest] = path.split('/');
    const name = decodeURIComponent(encodedName);
    const given = (body ?? {}) as Body;
    const route = `${method} ${rest.join('/')}`.trim();
    const collection = collections.get(name);
    if (route === 'GET exists') return { exists: collection !== undefined };
    if (route === 'DELETE') return collections.delete(name);
    if (route === 'PUT') {
      if (collection !== undefined)
        throw new Refusal(409, `Wrong input: Collection \`${name}\` already exists!`);
      collections.set(name, createDoubleCollection(given));
      return true;
    }
    if (collection === undefined) throw new Refusal(404, `Not found: Collection \`${name}\` doesn't exist!`);
    const reads: Record<string, (body: Body) => unknown> = {
      GET: collection.info,
      'POST points': collection.retrieve,
      'POST points/query': collection.query,
      'POST points/query/groups': collection.queryGroups,
      'POST points/scroll': collection.scroll,
      'POST points/count': collection.count,
      'POST facet': collection.facet,
    };
    const read = reads[route];
    if (read !== undefined) return read(given);
    // Since 1.18.
    if (rest[0] === 'vectors' && rest.length === 2 && method === 'PUT' && isAtLeast(version, 1, 18)) {
      collection.createVector(decodeURIComponent(rest[1] ?? ''), given);
      return toUpdateResult(query);
    }
    const writes: Record<string, (body: Body) => void> = {
      'PUT index': collection.createIndex,
      'PUT points': collection.upsert,
      'POST points/delete': collection.delete,
    };
    const write = writes[route];
    if (write === undefined) throw new Refusal(501, `The double does not imitate ${route}`);
    if (fault === 'acknowledged') return { operation_id: 0, status: 'acknowledged' };
    write(given);
    return toUpdateResult(query);
  }

  function answer(seen: SeenRequest, fault: Fault | undefined): { status: number; body: unknown } {
    const { path, query } = seen;
    const method = seen.method.toLowerCase();
    try {
      const wrong = description.requestFaults(method, path, query, seen.body);
      violations.push(...wrong);
      if (wrong.length > 0) throw new Refusal(400, `Format error in JSON body: ${wrong.join('; ')}`);
      const body =
        path === '/'
          ? { title: 'qdrant - vector search engine', version }
          : { result: handle(seen, fault), status: 'ok', time: 0.001 };
      violations.push(...description.answerFaults(method, path, body));
      return { status: 200, body };
    } catch (error) {
      if (!(error instanceof Refusal)) throw error;
      if (error.status === 501) violations.push(error.message);
      return { status: error.status, body: { status: { error: error.message }, time: 0.001 } };
    }
  }

  /** What Qdrant says to a request without the right key; undefined when it lets it in. */
  function toDenial({ path, headers }: SeenRequest): string | undefined {
    const given = headers['api-key'];
    if (apiKey === undefined || given === apiKey || OPEN_PATHS.includes(path)) return undefined;
    return given === undefined
      ? 'Must provide an API key or an Authorization bearer token'
      : 'Invalid API key or JWT';
  }

  async function respond(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const text = (await request.toArray()).join('');
    const { pathname, search } = new URL(request.url ?? '/', 'http://double');
    const body: unknown = text === '' ? undefined : JSON.parse(text);
    const { method = 'GET', headers, socket } = request;
    const seen = { method, path: pathname, query: search.slice(1), body, headers };
    requests.push(seen);
    const planned = faults.find((candidate) => candidate.left > 0 && candidate.only(seen));
    if (planned !== undefined) planned.left -= 1;
    const fault = planned?.fault;
    if (fault === 'silent') return;
    if (fault === 'reset') return void socket.destroy();
    if (typeof fault === 'object') {
      return void response.writeHead(fault.status, fault.headers).end(fault.body ?? '');
    }
    const denial = toDenial(seen);
    if (denial !== undefined) {
      return void response.writeHead(401, { 'content-type': 'text/plain' }).end(denial);
    }
    if (text.length > MAX_BYTES) return void response.writeHead(413).end();
    const hook = hooks.find((candidate) => !candidate.done && candidate.only(seen));
    if (hook !== undefined) {
      hook.done = true;
      await hook.run();
    }
    const result = answer(seen, fault);
    if (fault === 'late') return;
    const bytes = Buffer.from(JSON.stringify(result.body));
    response.writeHead(result.status, { 'content-type': 'application/json', 'content-length': bytes.length });
    if (fault === 'cut') return void response.write(bytes.subarray(0, 10), () => socket.destroy());
    response.end(bytes);
  }

  const server = createServer((request, response) => {
    respond(request, response).catch((error) => {
      violations.push(String(error));
      response.destroy();
    });
  });
  await new Promise<void>((resolve) => server.listen(port, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    requests,
    violations,
    fail: (fault, { times = 1, only = () => true } = {}) => void faults.push({ fault, left: times, only }),
    before: (only, run) => void hooks.push({ done: false, only, run }),
    async [Symbol.asyncDispose]() {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeAllConnections();
      await closed;
    },
  };
}
