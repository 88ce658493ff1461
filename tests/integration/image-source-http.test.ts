import { createServer, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createImageSource } from '../../src/images/image-source.ts';
import type { ImageSource } from '../../src/images/port.ts';

const MAX_BYTES = 20_000;
let png: Buffer;
let server: Server;
let origin: string;
let port: number;
let source: ImageSource;
const connections = new Set<unknown>();
const never = new AbortController().signal;
const get = (path: string, from = source) =>
  from.fetch({ kind: 'url', url: path.startsWith('/') ? origin + path : path }, never);
const open = (allowHosts: readonly string[], timeoutMs = 10_000) =>
  createImageSource({ roots: [], allowHosts, timeoutMs, maxBytes: MAX_BYTES, connectionsPerHost: 8 });

const ROUTES: Readonly<Record<string, RequestListener>> = {
  '/ok.png': (_, answer) => answer.end(png),
  '/wrong-type': (_, answer) => answer.writeHead(200, { 'content-type': 'text/html' }).end(png),
  '/page': (_, answer) => answer.end('<!DOCTYPE html><title>Login</title>'),
  '/json': (_, answer) => answer.end('{"error":"no"}'),
  '/empty': (_, answer) => answer.writeHead(204).end(),
  '/gzip': (_, answer) => answer.writeHead(200, { 'content-encoding': 'gzip' }).end(gzipSync(png)),
  '/br': (_, answer) => answer.writeHead(200, { 'content-encoding': 'br' }).end(brotliCompressSync(png)),
  '/bad-gzip': (_, answer) => answer.writeHead(200, { 'content-encoding': 'gzip' }).end(png),
  '/zstd': (_, answer) => answer.writeHead(200, { 'content-encoding': 'zstd' }).end(png),
  '/bomb': (_, answer) =>
    answer
      .writeHead(200, { 'content-encoding': 'gzip' })
      .end(gzipSync(Buffer.concat([png, Buffer.alloc(5_000_000)]))),
  '/announced': (_, answer) => {
    answer.writeHead(200, { 'content-length': '999999999' });
    answer.write(png);
  },
  '/endless': (_, answer) => {
    const more = () => {
      while (!answer.destroyed && answer.write(Buffer.alloc(5_000)));
    };
    answer.on('drain', more).write(png);
    more();
  },
  '/cut': (_, answer) => {
    answer.writeHead(200, { 'content-length': String(png.length) });
    answer.write(png.subarray(0, 20), () => answer.destroy());
  },
  '/drip': (_, answer) => {
    const timer = setInterval(() => answer.write('x'), 20);
    answer.on('close', () => clearInterval(timer));
  },
  '/silent': () => {},
  '/busy': (_, answer) => answer.writeHead(429).end(),
  '/busy-7': (_, answer) => answer.writeHead(429, { 'retry-after': '7' }).end(),
  '/busy-0': (_, answer) => answer.writeHead(429, { 'retry-after': '0' }).end(),
  '/down-for-ever': (_, answer) => answer.writeHead(503, { 'retry-after': '99999999' }).end(),
  '/failed-7': (_, answer) => answer.writeHead(500, { 'retry-after': '7' }).end(),
  '/hop': (request, answer) =>
    answer
      .writeHead(302, { location: new URLSearchParams(request.url?.split('?')[1]).get('to') ?? '' })
      .end(),
};

beforeAll(async () => {
  png = await sharp({ create: { width: 40, height: 40, channels: 3, background: 'teal' } })
    .png()
    .toBuffer();
  server = createServer((request, answer) => {
    connections.add(request.socket);
    const path = request.url?.split('?')[0] ?? '';
    const status = /^\/status\/(\d+)$/.exec(path)?.[1];
    const hops = /^\/hops\/(\d+)$/.exec(path)?.[1];
    if (status !== undefined) answer.writeHead(Number(status)).end('a body');
    else if (hops !== undefined)
      answer.writeHead(307, { location: hops === '1' ? '/ok.png' : `/hops/${Number(hops) - 1}` }).end();
    else ROUTES[path]?.(request, answer);
  });
  await new Promise<void>((listening) => server.listen(0, '127.0.0.1', listening));
  port = (server.address() as AddressInfo).port;
  origin = `http://127.0.0.1:${port}`;
  source = open([`127.0.0.1:${port}`]);
});
afterAll(async () => {
  await source[Symbol.asyncDispose]();
  server.closeAllConnections();
  server.close();
});

const hop = (to: string) => `/hop?to=${encodeURIComponent(to)}`;

describe('images by URL', () => {
  it.each([
    ['a plain answer', '/ok.png'],
    ['a wrong content type', '/wrong-type'],
    ['gzip that nobody asked for', '/gzip'],
    ['brotli that nobody asked for', '/br'],
    ['five redirects', '/hops/5'],
    ['a relative redirect', hop('/ok.png')],
  ])('takes %s', async (_, path) => {
    expect(Buffer.from(await get(path))).toEqual(png);
  });

  it.each([
    ['/page', 'image_unsupported', 'web page'],
    ['/json', 'image_unsupported', 'not those of'],
    ['/zstd', 'image_unsupported', 'content encoding'],
    ['/empty', 'image_corrupt', 'empty'],
    ['/bad-gzip', 'image_corrupt', 'decompressed'],
    ['/bomb', 'image_too_large', '20000 bytes'],
    ['/announced', 'image_too_large', '20000 bytes'],
    ['/endless', 'image_too_large', '20000 bytes'],
    ['/cut', 'image_fetch_failed', 'broke off'],
    ['/status/404', 'image_not_found', '404'],
    ['/status/410', 'image_not_found', '410'],
    ['/status/401', 'image_access_denied', '401'],
    ['/status/403', 'image_access_denied', '403'],
    ['/status/500', 'image_server_error', '500'],
    ['/status/304', 'image_server_error', '304'],
    ['/hops/6', 'image_url_invalid', 'more than 5'],
    [hop('file:///etc/passwd'), 'image_url_invalid', 'not an http'],
    [hop('http://user:secret@example.com/'), 'image_url_invalid', 'password'],
  ])('answers %s with %s', async (path, code, words) => {
    await expect(get(path)).rejects.toMatchObject({ code, message: expect.stringContaining(words) });
  });

  it.each([
    'ftp://example.com/a.png',
    'file:///etc/passwd',
    'data:image/png;base64,AA==',
    '/relative',
    'nonsense',
  ])('refuses the URL %s', async (url) => {
    await expect(source.fetch({ kind: 'url', url }, never)).rejects.toMatchObject({
      code: 'image_url_invalid',
    });
  });

  it('never repeats credentials or a signed query in what it says', async () => {
    const url = `${origin}/status/404?signature=secret`;
    await expect(get(url)).rejects.toSatisfy((error: Error) => !error.message.includes('secret'));
  });

  it.each([
    ['/busy', 1_000],
    ['/busy-0', 1_000],
    ['/busy-7', 7_000],
    ['/down-for-ever', 3_600_000],
  ])('takes %s as a request to slow down, for %i ms', async (path, retryAfterMs) => {
    await expect(get(path)).rejects.toMatchObject({ code: 'image_host_busy', retry: 'defer', retryAfterMs });
  });

  it('takes a 503 without Retry-After, and every other 5xx, as a failure of the server', async () => {
    await expect(get('/status/503')).rejects.toMatchObject({ code: 'image_server_error', retry: 'later' });
    const failed = { code: 'image_server_error', retry: 'later', retryAfterMs: 7_000 };
    await expect(get('/failed-7')).rejects.toMatchObject(failed);
  });

  // Two dots: refused before any server is asked.
  it('says that a host does not exist', async () => {
    await expect(get('http://no-such-host..invalid/a.png')).rejects.toMatchObject({
      code: 'image_host_unknown',
      retry: 'soon',
      message: expect.stringContaining('no-such-host..invalid'),
    });
  });

  it.each(['/drip', '/silent'])('ends %s at its deadline', async (path) => {
    await using hasty = open(['127.0.0.1'], 300);
    await expect(get(path, hasty)).rejects.toMatchObject({ code: 'image_fetch_timeout' });
  });

  it("ends with the caller's reason when the caller gives up", async () => {
    const caller = new AbortController();
    const waiting = source.fetch({ kind: 'url', url: `${origin}/silent` }, caller.signal);
    caller.abort(new Error('lease lost'));
    await expect(waiting).rejects.toThrow('lease lost');
  });

  it('says that nobody listens, as a failure to be retried later', async () => {
    await using loose = open(['127.0.0.0/8']);
    await expect(get('http://127.0.0.1:1/a.png', loose)).rejects.toMatchObject({
      code: 'image_fetch_failed',
      message: expect.stringContaining('refused'),
      retry: 'later',
    });
  });

  it('keeps connections, and opens a bounded number', async () => {
    connections.clear();
    await using pooled = open(['127.0.0.1']);
    await Promise.all(Array.from({ length: 40 }, () => get('/ok.png', pooled)));
    expect(connections.size).toBeLessThanOrEqual(8);
  });
});

describe('the guard', () => {
  it.each([
    ['a literal', (p: number) => `http://127.0.0.1:${p}/ok.png`],
    ['a decimal literal', (p: number) => `http://2130706433:${p}/ok.png`],
    ['an octal, short literal', (p: number) => `http://0177.1:${p}/ok.png`],
    ['a mapped literal', (p: number) => `http://[::ffff:127.0.0.1]:${p}/ok.png`],
    ['the unspecified address', (p: number) => `http://0.0.0.0:${p}/ok.png`],
    ['a name that resolves to loopback', (p: number) => `http://localhost:${p}/ok.png`],
    ['the metadata service', () => 'http://169.254.169.254/latest/meta-data/'],
  ])('blocks %s', async (_, url) => {
    await using guarded = open([]);
    await expect(get(url(port), guarded)).rejects.toMatchObject({ code: 'image_address_blocked' });
  });

  it('checks every redirect', async () => {
    for (const target of [
      `http://localhost:${port}/ok.png`,
      'http://169.254.169.254/',
      `http://[::1]:${port}/`,
    ]) {
      await expect(get(hop(target))).rejects.toMatchObject({ code: 'image_address_blocked' });
    }
  });

  it('lets a named host, host with port and network through', async () => {
    for (const entry of ['127.0.0.1', `127.0.0.1:${port}`, '127.0.0.0/8']) {
      await using allowed = open([entry]);
      await expect(get('/ok.png', allowed)).resolves.toHaveLength(png.length);
    }
    await using other = open([`127.0.0.1:${port + 1}`]);
    await expect(get('/ok.png', other)).rejects.toMatchObject({ code: 'image_address_blocked' });
  });
});
