import { hash } from 'node:crypto';
import { once } from 'node:events';
import { createServer as createHttpServer, get, type IncomingMessage } from 'node:http';
import { type AddressInfo, connect } from 'node:net';
import { Hono } from 'hono';
import { describe, expect, test } from 'vitest';
import { createClientAddresses, toAddressGroup } from '../../src/http/access/client-address.ts';
import { limitSlowBodies } from '../../src/http/access/connections.ts';
import { createApp } from '../../src/http/app.ts';
import { startServer } from '../../src/http/server.ts';
import { createTestContext } from '../support/context.ts';
import { startRedis, whyNoRedis } from '../support/redis-server.ts';
import { until } from '../support/until.ts';

/** A request to the app as if it had come over a socket from this address. */
const askFrom =
  (app: ReturnType<typeof createApp>) =>
  (address: string, path = '/queue/stats', headers: Record<string, string> = {}) =>
    app.request(path, { headers }, { incoming: { socket: { remoteAddress: address } } });

describe('the rate limit', () => {
  test('counts each address by itself, says how much is left, and never counts the probes', async () => {
    await using context = await createTestContext({ RATE_LIMIT_PER_ADDRESS: '3' });
    const ask = askFrom(createApp(context));
    for (const left of [2, 1, 0]) {
      const { status, headers } = await ask('192.0.2.1');
      expect(status).toBe(200);
      expect(headers.get('ratelimit-policy')).toBe('"address";q=3;w=60');
      expect(headers.get('ratelimit')).toMatch(new RegExp(`^"address";r=${left};t=(60|5\\d)$`));
    }
    const refused = await ask('192.0.2.1');
    expect(refused.status).toBe(429);
    expect(await refused.json()).toMatchObject({ code: 'rate_limited' });
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(50);
    expect(refused.headers.get('ratelimit')).toMatch(/^"address";r=0;t=/);
    expect((await ask('192.0.2.2')).status).toBe(200);
    expect((await ask('192.0.2.1', '/livez')).status).toBe(200);
    for (let n = 0; n < 4; n++)
      expect((await ask('192.0.2.3', '/readyz')).headers.has('ratelimit')).toBe(false);
  });

  test('counts each key by itself, from whatever addresses it is used', async () => {
    const keys = ['a', 'b']
      .map((name) => `${name}:read:${hash('sha256', `key-${name}`, 'base64url')}`)
      .join();
    await using context = await createTestContext({ API_KEYS: keys, RATE_LIMIT_PER_KEY: '2' });
    const ask = askFrom(createApp(context));
    const as = (key: string, n: number) => ask(`192.0.2.${n}`, '/queue/stats', { 'X-API-Key': key });
    const first = await as('key-a', 1);
    expect(first.headers.get('ratelimit-policy')).toBe('"address";q=600000;w=60, "key";q=2;w=60');
    expect([(await as('key-a', 2)).status, (await as('key-a', 3)).status]).toEqual([200, 429]);
    expect((await as('key-b', 3)).status).toBe(200);
  });

  test('can be turned off', async () => {
    await using context = await createTestContext({ RATE_LIMIT_PER_ADDRESS: '0' });
    expect((await askFrom(createApp(context))('192.0.2.1')).headers.has('ratelimit')).toBe(false);
  });
});
describe.skipIf(whyNoRedis() !== null)('with Redis', () => {
  test('API processes count together, and each alone while Redis is down', async () => {
    await using redis = await startRedis();
    const settings = { REDIS_URL: redis.url, RATE_LIMIT_PER_ADDRESS: '10', PORT: '0' };
    await using one = await createTestContext(settings);
    await using other = await createTestContext(settings);
    const servers = [await startServer(one), await startServer(other)];
    try {
      const ask = async (index: number, localAddress: string) => {
        const request = get(`${servers[index]!.url}/openapi.json`, { localAddress, agent: false });
        const [response] = (await once(request, 'response')) as [IncomingMessage];
        response.resume();
        return response.statusCode;
      };
      const askInTurns = async (localAddress: string) => {
        const statuses: (number | undefined)[] = [];
        for (let n = 0; n < 24; n++) statuses.push(await ask(n % 2, localAddress));
        return statuses.filter((status) => status === 200).length;
      };
      /** From ever new addresses, for each of them is counted in one place for a minute. */
      const untilCountedInRedis = async (index: number, network: string) =>
        until('counts in Redis', async () => {
          await ask(index, `${network}.${Math.ceil(Math.random() * 250)}`);
          const keys = await redis.client.keys(`{vitrine}:rate:address:${network}.*`).catch(() => []);
          return keys.length > 0 || undefined;
        });
      await untilCountedInRedis(0, '127.0.1');
      await untilCountedInRedis(1, '127.0.2');
      expect(await askInTurns('127.0.0.2')).toBe(10);
      await redis.kill();
      const from = performance.now();
      expect(await askInTurns('127.0.0.3')).toBe(20);
      expect(performance.now() - from).toBeLessThan(10_000);
      await redis.restart();
      await untilCountedInRedis(0, '127.0.3');
    } finally {
      for (const server of servers) await server.stop();
    }
  }, 120_000);
});

describe('the address of a client', () => {
  const read = async (
    settings: { networks: readonly string[]; header?: 'x-forwarded-for' | 'forwarded' },
    peer: string,
    headers: Record<string, string>,
  ) => {
    const addresses = createClientAddresses({ proxies: { header: 'x-forwarded-for', ...settings } });
    const app = new Hono();
    app.get('/', (c) => c.json([addresses.of(c), addresses.isHttps(c)]));
    const response = await app.request('/', { headers }, { incoming: { socket: { remoteAddress: peer } } });
    return (await response.json()) as [string, boolean];
  };
  const networks = ['10.0.0.0/8', 'fd00::/8'];

  test.each([
    ['203.0.113.9', {}, '203.0.113.9'],
    ['203.0.113.9', { 'X-Forwarded-For': '1.2.3.4', 'X-Forwarded-Proto': 'https' }, '203.0.113.9'],
    ['10.0.0.1', { 'X-Forwarded-For': '1.2.3.4' }, '1.2.3.4'],
    ['::ffff:10.0.0.1', { 'X-Forwarded-For': '1.2.3.4:5678' }, '1.2.3.4'],
    ['10.0.0.1', { 'X-Forwarded-For': 'spoofed, 6.6.6.6, 1.2.3.4, 10.9.9.9' }, '1.2.3.4'],
    ['10.0.0.1', { 'X-Forwarded-For': '1.2.3.4, nonsense' }, '10.0.0.1'],
    ['fd00::1', { 'X-Forwarded-For': '[2001:db8::1]:99' }, '2001:db8::1'],
    ['10.0.0.1', { Forwarded: 'for=6.6.6.6' }, '10.0.0.1'],
  ])('from %s with %j is %s', async (peer, headers, expected) => {
    expect((await read({ networks }, peer, headers as Record<string, string>))[0]).toBe(expected);
  });

  test('comes from Forwarded where the proxy sets that', async () => {
    const settings = { networks, header: 'forwarded' } as const;
    const headers = {
      Forwarded: 'for=6.6.6.6, by=x;for="[2001:db8::1]:4711";proto=https',
      'X-Forwarded-For': '6.6.6.6',
    };
    expect(await read(settings, '10.0.0.1', headers)).toEqual(['2001:db8::1', true]);
    expect(await read(settings, '9.9.9.9', headers)).toEqual(['9.9.9.9', false]);
  });

  test('is counted with its network of IPv6', () => {
    expect(toAddressGroup('2001:db8:1:2:3:4:5:6')).toBe(toAddressGroup('2001:db8:1:2::9'));
    expect(toAddressGroup('2001:db8:1:3::')).not.toBe(toAddressGroup('2001:db8:1:2::'));
    expect(toAddressGroup('::ffff:192.0.2.1')).toBe('192.0.2.1');
  });
});

describe('connections', () => {
  const openMany = async (url: string, count: number) => {
    const { hostname, port } = new URL(url);
    let open = 0;
    const sockets = Array.from({ length: count }, () => {
      const socket = connect(Number(port), hostname);
      open++;
      socket.on('error', () => undefined).once('close', () => open--);
      return socket;
    });
    return { sockets, open: () => open };
  };

  test.each([
    ['MAX_CONNECTIONS', {}],
    ['MAX_CONNECTIONS_PER_ADDRESS', {}],
  ])('beyond %s are closed, and others take their place', async (name) => {
    await using context = await createTestContext({ PORT: '0', [name]: '3' });
    const server = await startServer(context);
    try {
      const { sockets, open } = await openMany(server.url, 8);
      await until('the others to be closed', () => (open() === 3 ? true : undefined));
      for (const socket of sockets) socket.destroy();
      await until('a place', () =>
        fetch(`${server.url}/livez`).then(
          ({ ok }) => ok || undefined,
          () => undefined,
        ),
      );
    } finally {
      await server.stop();
    }
  });

  test('a body that comes too slowly is cut off; one that keeps its pace, and an answer that takes long, are not', async () => {
    const pace = { graceMs: 300, minBytesPerSecond: 1_000, checkMs: 20 };
    const server = createHttpServer((request, response) => {
      request.resume();
      request.on('end', () => setTimeout(() => response.end('done'), 800));
    });
    limitSlowBodies(server, pace);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const send = async (bytesPerTick: number, { isSecond = false } = {}) => {
      const socket = connect(port, '127.0.0.1').setEncoding('utf8');
      let answer = '';
      socket.on('data', (text: string) => {
        answer += text;
      });
      socket.on('error', () => undefined);
      if (isSecond) {
        socket.write('POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx');
        await until(
          'the first answer',
          () => answer.endsWith('\r\n0\r\n\r\n') || answer.endsWith('done') || undefined,
        );
        answer = '';
      }
      socket.write('POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2000\r\n\r\n');
      let sent = 0;
      const timer = setInterval(() => {
        if (sent >= 2000) return;
        const bytes = Math.min(bytesPerTick, 2000 - sent);
        sent += bytes;
        socket.write('x'.repeat(bytes));
      }, 50);
      await once(socket, 'close');
      clearInterval(timer);
      return answer.split('\r\n')[0];
    };
    try {
      expect(await Promise.all([send(1), send(1, { isSecond: true }), send(150)])).toEqual([
        'HTTP/1.1 408 Request Timeout',
        'HTTP/1.1 408 Request Timeout',
        'HTTP/1.1 200 OK',
      ]);
    } finally {
      server.close();
    }
  });
});
