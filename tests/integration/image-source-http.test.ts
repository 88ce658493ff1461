import { createServer, type IncomingHttpHeaders, type RequestListener, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest';
import type { ResolveHost } from '../../src/images/address-guard.ts';
import { createImageSource, type ImageSourceSettings } from '../../src/images/image-source.ts';
import type { ImageSource } from '../../src/images/port.ts';
import { imageSettings } from '../support/image-settings.ts';

const MAX_BYTES = 20_000;
let png: Buffer;
let server: Server;
let origin: string;
let port: number;
let source: ImageSource;
const connections = new Set<unknown>();
/** Ends the answers that are held back. */
const held: (() => void)[] = [];
/** Of each request. */
const headers: IncomingHttpHeaders[] = [];
const never = new AbortController().signal;
const get = (path: string, from = source) =>
  from.fetch({ kind: 'url', url: path.startsWith('/') ? origin + path : path }, never);
const open = (allowedHosts: readonly string[], over: Partial<ImageSourceSettings> = {}) =>
  createImageSource({ ...imageSettings, allowedHosts, maxBytes: MAX_BYTES, ...over });

const ROUTES: Readonly<Record<string, RequestListener>> = {
  '/ok.png': (_, answer) => answer.end(png),
  '/wrong-type': (_, answer) => answer.writeHead(200, { 'content-type': 'text/html' }).end(png),
  '/drip': (_, answer) => {
    const timer = setInterval(() => answer.write('x'), 20);
    answer.on('close', () => clearInterval(timer));
  },
  '/silent': () => {},
  '/slow-head': (request) => {
    request.socket.write('HTTP/1.1 200 OK\r\nX-Slow: ');
    const timer = setInterval(() => request.socket.write('x'), 20);
    request.socket.on('close', () => clearInterval(timer));
  },
  '/head': (_, answer) => answer.writeHead(200, { 'content-length': '100' }).flushHeaders(),
  '/late': (_, answer) => {
    answer.write(png.subarray(0, 20));
    setTimeout(() => answer.end(png.subarray(20)), 600);
  },
  '/most': (_, answer) => {
    answer.write(Buffer.concat([png, Buffer.alloc(15_000 - png.length)]));
    held.push(() => answer.end());
  },
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
    headers.push(request.headers);
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
    ['three redirects', '/hops/3'],
    ['a relative redirect', hop('/ok.png')],
  ])('takes %s', async (_, path) => {
    expect(Buffer.from(await get(path))).toEqual(png);
  });

  it.each([
    ['/status/410', 'image_not_found', '410'],
    ['/status/403', 'image_access_denied', '403'],
    ['/status/451', 'image_access_denied', '451'],
    ['/hops/4', 'image_url_invalid', 'more than 3'],
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
    await using hasty = open(['127.0.0.1'], { timeoutMs: 300 });
    await expect(get(path, hasty)).rejects.toMatchObject({ code: 'image_fetch_timeout' });
  });

  it.each([
    ['that says nothing', '/silent'],
    ['that sends its head a byte at a time', '/slow-head'],
    ['that sends a head and nothing else', '/head'],
  ])('does not wait until the deadline for the first byte of a server %s', async (_, path) => {
    await using hasty = open(['127.0.0.1'], { timeoutMs: 20_000, firstByteMs: 300 });
    await expect(get(path, hasty)).rejects.toMatchObject({
      code: 'image_fetch_timeout',
      message: `127.0.0.1:${port} sent no byte of the image within 300 ms.`,
    });
    await expect(get('/late', hasty)).resolves.toHaveLength(png.length);
  });

  it('ends the fetch that began first when all of them hold too many bytes', async () => {
    await using small = open(['127.0.0.1'], { maxBytesInFlight: 2.5 * 15_000 });
    const ends = Array.from({ length: 3 }, () => get('/most', small).catch((error: unknown) => error));
    expect(await ends[0]).toMatchObject({ code: 'image_host_slow', retry: 'defer' });
    for (const release of held.splice(0)) release();
    for (const other of ends.slice(1)) expect(await other).toBeInstanceOf(Uint8Array);
  });

  it("ends with the caller's reason when the caller gives up", async () => {
    const caller = new AbortController();
    const waiting = source.fetch({ kind: 'url', url: `${origin}/silent` }, caller.signal);
    caller.abort(new Error('lease lost'));
    await expect(waiting).rejects.toThrow('lease lost');
  });

  it('says that nobody listens, as a failure to be retried later', async () => {
    await using loose = open([], { allowedNetworks: ['127.0.0.0/8'] });
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
    const ok = [
      open(['127.0.0.1']),
      open([`127.0.0.1:${port}`]),
      open([], { allowedNetworks: ['127.0.0.0/8'] }),
    ];
    for (const allowed of ok) {
      await using source = allowed;
      await expect(get('/ok.png', source)).resolves.toHaveLength(png.length);
    }
    await using other = open([`127.0.0.1:${port + 1}`], { allowedNetworks: ['127.1.0.0/16'] });
    await expect(get('/ok.png', other)).rejects.toMatchObject({ code: 'image_address_blocked' });
  });

  it('refuses a redirect from another host to an allowed one, by name and by network', async () => {
    const allowed = { allowedNetworks: ['127.0.0.0/8', '::1/128'] };
    for (const settings of [open(['localhost', '127.0.0.1']), open(['localhost'], allowed)]) {
      await using from = settings;
      // The allowed host has been asked before: its open connection must not be used either.
      await get('/ok.png', from);
      const url = `http://localhost:${port}${hop(`${origin}/ok.png`)}`;
      await expect(get(url, from)).rejects.toMatchObject({
        code: 'image_address_blocked',
        message: expect.stringContaining('redirects to another host'),
      });
      // Nor may it lead back.
      const back = `${origin}${hop(`http://localhost:${port}${hop(`${origin}/ok.png`)}`)}`;
      await expect(get(back, from)).rejects.toMatchObject({ code: 'image_address_blocked' });
    }
  });
});

/** Passes the guard as a public address, and leads to loopback afterwards: a public host for a test. */
const resolveOnceAsPublic: ResolveHost = (_hostname, _options, callback) => {
  const answers = ['93.184.215.14'];
  const found = {
    family: 4,
    get address() {
      return answers.pop() ?? '127.0.0.1';
    },
  };
  callback(null, [found]);
};

describe('what a host is sent', () => {
  const received = async (url: string, settings: Partial<ImageSourceSettings>) => {
    await using asking = open(['127.0.0.1', 'localhost'], settings);
    headers.length = 0;
    await get(url, asking).catch(() => undefined);
    return headers;
  };

  it('names the program, its version and who can be asked', async () => {
    const [without] = await received('/ok.png', {});
    expect(without?.['user-agent']).toMatch(/^Vitrine\/\d+\.\d+\.\d+$/);
    expect(without).toMatchObject({ 'accept-encoding': 'identity' });
    const [withContact] = await received('/ok.png', { contact: 'https://shop.example/bot' });
    expect(withContact?.['user-agent']).toMatch(/^Vitrine\/[\d.]+ \(\+https:\/\/shop\.example\/bot\)$/);
  });

  it('has the header fields of its settings, and those of no other host', async () => {
    const own = { authorization: 'Bearer own', 'x-key': '1' };
    const other = { authorization: 'Bearer other' };
    const bare = await received('/ok.png', { sourceHeaders: { '127.0.0.1': own, localhost: other } });
    expect(bare).toMatchObject([own]);
    const exact = { [`127.0.0.1:${port}`]: own, '127.0.0.1': other };
    expect(await received('/ok.png', { sourceHeaders: exact })).toMatchObject([own]);
    const wrongPort = { [`127.0.0.1:${port + 1}`]: own, 'xn--x.127.0.0.1': other };
    expect((await received('/ok.png', { sourceHeaders: wrongPort }))[0]).not.toHaveProperty('authorization');
  });

  it('has no secrets over plain http on the way to a public host', async () => {
    const sourceHeaders = { 'shop.test': { authorization: 'Bearer own' } };
    const url = `http://shop.test:${port}/ok.png`;
    const [sent] = await received(url, { sourceHeaders, resolveHost: resolveOnceAsPublic });
    expect(sent).toMatchObject({ host: `shop.test:${port}` });
    expect(sent).not.toHaveProperty('authorization');
  });

  it('after a redirect has nothing that was meant for the first host', async () => {
    const other = createServer((request, answer) => {
      headers.push(request.headers);
      answer.end(png);
    });
    await new Promise<void>((listening) => other.listen(0, '127.0.0.1', listening));
    onTestFinished(() => void other.close());
    const neighbour = other.address() as AddressInfo;
    const secret = { authorization: 'Bearer secret', cookie: 'id=secret' };
    const sourceHeaders = { [`127.0.0.1:${port}`]: secret };
    const sent = await received(hop(`${origin}/ok.png`), { sourceHeaders });
    expect(sent).toMatchObject([secret, secret]);
    const elsewhere = await received(hop(`http://elsewhere.test:${neighbour.port}/`), {
      sourceHeaders,
      resolveHost: resolveOnceAsPublic,
    });
    expect(elsewhere).toMatchObject([secret, { host: `elsewhere.test:${neighbour.port}` }]);
    expect(JSON.stringify(elsewhere[1])).not.toContain('secret');
  });
});
