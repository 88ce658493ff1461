import type { IncomingMessage } from 'node:http';
import { json } from 'node:stream/consumers';

/** What commands use of a Response. */
export type Answer = Pick<Response, 'ok' | 'status' | 'json'> & {
  readonly headers: Pick<Headers, 'get'>;
  readonly body: AsyncIterable<Uint8Array> | null;
};

export interface SendOptions {
  readonly method: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly signal: AbortSignal;
}

/**
 * What `fetch` does, without loading `fetch`: that takes longer than all else of a command. An import of node:http
 * would load it too.
 */
export function send(url: string, { body, ...options }: SendOptions): Promise<Answer> {
  const { request } = process.getBuiltinModule(url.startsWith('https:') ? 'node:https' : 'node:http');
  return new Promise((resolve, reject) => {
    const headers = {
      ...options.headers,
      ...(body !== undefined && { 'Content-Length': Buffer.byteLength(body) }),
    };
    request(url, { ...options, headers }, (response) => resolve(toAnswer(response)))
      .on('error', reject)
      .end(body);
  });
}

function toAnswer(response: IncomingMessage): Answer {
  const status = response.statusCode ?? 0;
  return {
    ok: status >= 200 && status < 300,
    status,
    headers: { get: (name) => response.headers[name.toLowerCase()]?.toString() ?? null },
    body: response,
    json: () => json(response),
  };
}
