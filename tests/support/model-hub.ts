import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';

/** What a request is answered with instead of the file. True when it was answered. */
export type Mischief = (path: string, answer: ServerResponse, content: Buffer, start: number) => boolean;

export interface ModelHub extends AsyncDisposable {
  readonly url: string;
  /** Each request for a file's content: its path and from which byte on. */
  readonly requests: { readonly path: string; readonly start: number }[];
  mischief: Mischief | null;
}

/**
 * A folder served in the hub's layout, as the real one answers: graphs are redirected to a store, with their
 * length and SHA-256 on the redirect; parts are served by Range and If-Range.
 */
export async function startModelHub(hubId: string, folder: string): Promise<ModelHub> {
  const requests: ModelHub['requests'] = [];
  const hub = { requests, mischief: null as Mischief | null };
  const toEtag = (content: Buffer) => createHash('sha256').update(content).digest('hex');

  function sendFile(path: string, request: IncomingMessage, answer: ServerResponse): void {
    const content = readFileSync(join(folder, path));
    const etag = `"${toEtag(content)}"`;
    const range = /^bytes=(\d+)-$/.exec(request.headers.range ?? '');
    const isPart = range !== null && request.headers['if-range'] === etag;
    const start = isPart ? Number(range[1]) : 0;
    requests.push({ path, start });
    if (hub.mischief?.(path, answer, content, start)) return;
    if (start >= content.length) {
      answer.writeHead(416, { 'content-range': `bytes */${content.length}` }).end();
      return;
    }
    answer.writeHead(isPart ? 206 : 200, {
      etag,
      'content-length': content.length - start,
      ...(isPart && { 'content-range': `bytes ${start}-${content.length - 1}/${content.length}` }),
    });
    answer.end(content.subarray(start));
  }

  const server = createServer((request, answer) => {
    const { pathname } = new URL(request.url ?? '/', 'http://hub');
    const stored = /^\/store\/(.+)$/.exec(pathname)?.[1];
    if (stored !== undefined) return sendFile(stored, request, answer);
    const prefix = `/${hubId}/resolve/main/`;
    const path = pathname.startsWith(prefix) ? pathname.slice(prefix.length) : '';
    if (path === '' || !existsSync(join(folder, path))) {
      answer.writeHead(404).end('Entry not found');
      return;
    }
    answer.setHeader('x-repo-commit', 'c0ffee');
    if (!path.endsWith('.onnx')) return sendFile(path, request, answer);
    const content = readFileSync(join(folder, path));
    const linked = { 'x-linked-size': content.length, 'x-linked-etag': `"${toEtag(content)}"` };
    answer.writeHead(302, { location: `/store/${path}`, ...linked }).end();
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  return Object.assign(hub, {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
    },
  });
}
