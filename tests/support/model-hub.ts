import { createHash } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';

/** Answers a request for content instead of the hub. Returns true when it did. */
export type Mischief = (path: string, answer: ServerResponse, content: Buffer, start: number) => boolean;

export interface ModelHub extends AsyncDisposable {
  readonly url: string;
  /** Each request for a file's content: its path, its revision, and from which byte on. */
  readonly requests: { readonly path: string; readonly revision: string; readonly start: number }[];
  /** The commits and their folders, the newest last: `main` is that one. */
  readonly commits: { readonly id: string; readonly folder: string }[];
  mischief: Mischief | null;
  /** False: answers say neither the length nor the commit nor the SHA-256 of a file, as some mirrors do. */
  announces: boolean;
}

export const FIRST_COMMIT = 'c0ffee'.padEnd(40, '0');

/**
 * A folder served in the hub's layout, in the way that the real one answers: graphs are redirected to a store, and the
 * redirect says their length and SHA-256; ranges are served.
 */
export async function startModelHub(hubId: string, folder: string): Promise<ModelHub> {
  const hub = {
    requests: [] as ModelHub['requests'],
    commits: [{ id: FIRST_COMMIT, folder }],
    mischief: null as Mischief | null,
    announces: true,
  };

  function sendFile(revision: string, path: string, request: IncomingMessage, answer: ServerResponse): void {
    const content = readFile(revision, path) ?? Buffer.alloc(0);
    const range = /^bytes=(\d+)-$/.exec(request.headers.range ?? '');
    const start = Number(range?.[1] ?? 0);
    if (request.method === 'GET') {
      hub.requests.push({ path, revision, start });
      if (hub.mischief?.(path, answer, content, start)) return;
    }
    if (start >= content.length) {
      answer.writeHead(416, { 'content-range': `bytes */${content.length}` }).end();
      return;
    }
    answer.writeHead(range === null ? 200 : 206, {
      etag: toEtag(content),
      ...(hub.announces && { 'content-length': content.length - start }),
      ...(range !== null && { 'content-range': `bytes ${start}-${content.length - 1}/${content.length}` }),
    });
    answer.end(content.subarray(start));
  }

  function readFile(revision: string, path: string): Buffer | null {
    const commit = revision === 'main' ? hub.commits.at(-1) : hub.commits.find(({ id }) => id === revision);
    const file = join(commit?.folder ?? 'nowhere', path);
    return existsSync(file) ? readFileSync(file) : null;
  }

  const server = createServer((request, answer) => {
    const { pathname } = new URL(request.url ?? '/', 'http://hub');
    const [, stored, path = ''] = /^\/store\/([^/]+)\/(.+)$/.exec(pathname) ?? [];
    if (stored !== undefined) return sendFile(stored, path, request, answer);
    const prefix = `/${hubId}/resolve/`;
    const [revision = '', ...rest] = pathname.startsWith(prefix)
      ? pathname.slice(prefix.length).split('/')
      : [];
    const asked = rest.join('/');
    const content = readFile(revision, asked);
    if (content === null) {
      answer.writeHead(404).end('Entry not found');
      return;
    }
    if (!hub.announces) return sendFile(revision, asked, request, answer);
    answer.setHeader('x-repo-commit', revision === 'main' ? (hub.commits.at(-1)?.id ?? '') : revision);
    if (!asked.endsWith('.onnx')) return sendFile(revision, asked, request, answer);
    const linked = { 'x-linked-size': content.length, 'x-linked-etag': toEtag(content) };
    answer.writeHead(302, { location: `/store/${revision}/${asked}`, ...linked }).end();
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

const toEtag = (content: Buffer) => `"${createHash('sha256').update(content).digest('hex')}"`;
