import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { createApiKey, toKeyEntry } from '../../src/config/api-keys.ts';
import type { Scope } from '../../src/config/scopes.ts';
import { ROUTE_SCOPES } from '../../src/http/access/route-scopes.ts';
import { createApp } from '../../src/http/app.ts';
import { startServer } from '../../src/http/server.ts';
import { createWorker } from '../../workers/worker.ts';
import { createTempFolder, createTestContext } from '../support/context.ts';
import { drawImage } from '../support/images.ts';
import { startProgram } from '../support/program.ts';
import { until } from '../support/until.ts';

function newKey(name: string, ...scopes: readonly Scope[]) {
  const { key, entry } = createApiKey(name, scopes);
  return { key, entry: toKeyEntry(entry) };
}

const shop = newKey('shop', 'search');
const importer = newKey('importer', 'enqueue');
const monitor = newKey('monitor', 'read');
const boss = newKey('boss', 'admin');
const API_KEYS = [shop, importer, monitor, boss].map(({ entry }) => entry).join(',');
const bearer = (key: string) => ({ Authorization: `Bearer ${key}` });
const codeOf = async (response: Response) => ((await response.json()) as { code: string }).code;

describe('with API keys', () => {
  test('each route takes the keys that have one of its scopes, and no other', async () => {
    await using context = await createTestContext({ API_KEYS });
    const app = createApp(context);
    const keys = { enqueue: importer, search: shop, read: monitor, admin: boss };
    for (const [route, scopes] of Object.entries(ROUTE_SCOPES)) {
      const [method = '', path = ''] = route.split(' ');
      const address = path.replace(/:\w+/, '0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b');
      const ask = (headers: Record<string, string>) => app.request(address, { method, headers });
      if (scopes === 'public') {
        if (address !== '/session') expect((await ask({})).status, route).not.toBe(401);
        continue;
      }
      const without = await ask({});
      expect(without.status, route).toBe(401);
      expect(without.headers.get('www-authenticate')).toBe('Bearer realm="vitrine"');
      expect(await codeOf(without)).toBe('api_key_required');
      expect(await codeOf(await ask(bearer(`${boss.key}x`)))).toBe('api_key_invalid');
      for (const [scope, { key }] of Object.entries(keys)) {
        const mayDoIt = scope === 'admin' || scopes.some((each) => each === scope);
        const response = await ask(scope === 'read' ? { 'X-API-Key': key } : bearer(key));
        const isRefused = response.status === 403 && (await codeOf(response)) === 'scope_missing';
        expect(isRefused, `${scope}: ${route}`).toBe(!mayDoIt);
        expect(response.status, `${scope}: ${route}`).not.toBe(401);
      }
    }
  });

  test('what they get is for private caches alone', async () => {
    await using context = await createTestContext({ API_KEYS });
    const app = createApp(context);
    const image_base64 = (await drawImage(1)).toString('base64');
    await app.request('/queue/enqueue', {
      method: 'POST',
      headers: { ...bearer(importer.key), 'Content-Type': 'application/json' },
      body: JSON.stringify({ product_id: 'p', image_base64 }),
    });
    await createWorker(context).run({ once: true });
    const response = await app.request('/products/p/similar', { headers: { 'X-API-Key': shop.key } });
    expect([response.status, response.headers.get('cache-control')]).toEqual([200, 'private, max-age=60']);
  });

  test('every route has its scopes, in the table and in the document', async () => {
    await using context = await createTestContext({ API_KEYS });
    const app = createApp(context);
    const served = app.routes.filter(({ method }) => method !== 'ALL');
    expect([...new Set(served.map(({ method, path }) => `${method} ${path}`))].toSorted()).toEqual(
      Object.keys(ROUTE_SCOPES).toSorted(),
    );
    const document = (await (await app.request('/openapi.json')).json()) as {
      components: { securitySchemes: object };
      paths: Record<string, Record<string, { security?: readonly Record<string, string[]>[] }>>;
    };
    expect(Object.keys(document.components.securitySchemes)).toEqual(['bearer', 'header', 'session']);
    expect(document.paths['/queue/dead']?.['delete']?.security).toContainEqual({ bearer: ['admin'] });
    expect(document.paths['/livez']?.['get']).not.toHaveProperty('security');
  });

  test('an unknown address is answered as such, and HEAD needs what GET needs', async () => {
    await using context = await createTestContext({ API_KEYS });
    const app = createApp(context);
    expect((await app.request('/nowhere')).status).toBe(404);
    expect((await app.request('/search')).status).toBe(405);
    expect((await app.request('/queue/workers', { method: 'HEAD' })).status).toBe(401);
  });

  test('a job that was waited for names its worker to those who may read', async () => {
    await using context = await createTestContext({ API_KEYS });
    const app = createApp(context);
    const { createWorker } = await import('../../workers/worker.ts');
    const worker = createWorker(context);
    const running = worker.run();
    const enqueue = async (key: string, product_id: string) => {
      const response = await app.request('/queue/enqueue', {
        method: 'POST',
        headers: { ...bearer(key), 'Content-Type': 'application/json', Prefer: 'wait=30' },
        body: JSON.stringify({ product_id, image_base64: 'AAAA' }),
      });
      expect(response.status).toBe(200);
      return (await response.json()) as { worker_id: string | null; history: { worker_id: string | null }[] };
    };
    const hidden = await enqueue(importer.key, 'a');
    const shown = await enqueue(boss.key, 'b');
    worker.stop();
    await running;
    expect([hidden.worker_id, ...hidden.history.map((attempt) => attempt.worker_id)]).toEqual([null, null]);
    expect(shown.history[0]?.worker_id).toBeTypeOf('string');
  });
});

describe('a session', () => {
  const signIn = (app: ReturnType<typeof createApp>, key: string, headers = {}) =>
    app.request('/session', { method: 'POST', headers: { ...bearer(key), ...headers } });
  const cookieOf = (response: Response) => response.headers.get('set-cookie')?.split(';')[0] ?? '';

  test('lets a browser do what its key may, on every process with the same keys', async () => {
    await using context = await createTestContext({ API_KEYS });
    const signedIn = await signIn(createApp(context), monitor.key);
    expect(signedIn.status).toBe(200);
    expect(await signedIn.json()).toMatchObject({ name: 'monitor', scopes: ['read'] });
    const cookie = signedIn.headers.get('set-cookie') ?? '';
    expect(cookie).toMatch(/HttpOnly/);
    expect(cookie).toMatch(/SameSite=Strict/);
    expect(cookie).toMatch(/Expires=/);
    expect(cookie).not.toMatch(/Secure/);
    expect(cookie).not.toContain(monitor.key);

    const other = createApp(context);
    const headers = { Cookie: cookieOf(signedIn) };
    expect((await other.request('/queue/workers', { headers })).status).toBe(200);
    expect((await other.request('/queue/pause', { method: 'POST', headers })).status).toBe(403);
    expect(await (await other.request('/session', { headers })).json()).toMatchObject({ name: 'monitor' });
    const out = await other.request('/session', { method: 'DELETE', headers });
    expect(out.status).toBe(204);
    expect(out.headers.get('set-cookie')).toMatch(/vitrine_session=;.*Max-Age=0/);
  });

  test('ends with its time, with its key, with the secret, and with any change to the token', async () => {
    await using context = await createTestContext({ API_KEYS, SESSION_HOURS: '1' });
    let now = Date.now();
    const clock = { ...context.clock, now: () => now };
    const app = createApp({ ...context, clock });
    const cookie = cookieOf(await signIn(app, monitor.key));
    const status = async (own: ReturnType<typeof createApp>, sent: string) =>
      (await own.request('/queue/stats', { headers: { Cookie: sent } })).status;
    expect(await status(app, cookie)).toBe(200);
    expect(await status(app, cookie.replace('monitor', 'boss'))).toBe(401);
    expect(await status(app, cookie.replace(/(\d+)(?=:|%3A)/, '9999999999999'))).toBe(401);
    const replaced = [newKey('monitor', 'read').entry, boss.entry].join(',');
    await using changed = await createTestContext({ API_KEYS: replaced });
    expect(await status(createApp(changed), cookie)).toBe(401);
    await using salted = await createTestContext({ API_KEYS, SESSION_SECRET: 'x'.repeat(32) });
    expect(await status(createApp(salted), cookie)).toBe(401);
    now += 3_600_001;
    expect(await status(app, cookie)).toBe(401);
  });

  test('is sent over https only where people use https', async () => {
    await using context = await createTestContext({ API_KEYS, PUBLIC_URL: 'https://vitrine.example' });
    expect((await signIn(createApp(context), boss.key)).headers.get('set-cookie')).toMatch(/Secure/);
  });

  test('needs a key that is known', async () => {
    await using context = await createTestContext({ API_KEYS });
    const app = createApp(context);
    expect(await codeOf(await signIn(app, 'vitrine_no'))).toBe('api_key_invalid');
    expect(await codeOf(await app.request('/session', { method: 'POST' }))).toBe('api_key_required');
    expect((await app.request('/session')).status).toBe(401);
  });
});

test('a file of keys is read again when it is replaced; a faulty one changes nothing', async () => {
  await using folder = await createTempFolder();
  const file = join(folder.path, 'keys');
  const replace = async (text: string) => {
    await writeFile(`${file}.new`, text);
    await rename(`${file}.new`, file);
  };
  await replace(`# Shops\n${shop.entry}\n`);
  await using context = await createTestContext({ API_KEYS_FILE: file, PORT: '0' });
  const server = await startServer(context);
  try {
    const isKnown = async (key: string) =>
      (await fetch(`${server.url}/session`, { headers: bearer(key) })).status === 200;
    expect([await isKnown(shop.key), await isKnown(boss.key)]).toEqual([true, false]);
    await replace(`${boss.entry}\n`);
    await until('the new key', async () => (await isKnown(boss.key)) || undefined);
    expect(await isKnown(shop.key)).toBe(false);
    await replace('nonsense');
    await new Promise((resolve) => setTimeout(resolve, 3_000));
    expect(await isKnown(boss.key)).toBe(true);
    await replace('');
    await until('nobody', async () => ((await isKnown(boss.key)) ? undefined : true));
    expect((await fetch(`${server.url}/queue/stats`)).status).toBe(401);
  } finally {
    await server.stop();
  }
});

describe('without API keys', () => {
  test('only the names of this machine and of PUBLIC_URL are answered, and the probes under any', async () => {
    await using context = await createTestContext({ PUBLIC_URL: 'http://pictures.example:8080' });
    const app = createApp(context);
    const ask = (host: string, path = '/queue/stats') => app.request(path, { headers: { Host: host } });
    for (const host of [
      'localhost',
      'localhost:8000',
      '127.0.0.1:1',
      '127.9.9.9',
      '[::1]:8000',
      'PICTURES.example',
    ])
      expect((await ask(host)).status, host).toBe(200);
    for (const host of [
      'evil.example',
      'localhost.evil.example',
      '10.0.0.1',
      '192.168.0.1:8000',
      '[fe80::1]',
      '',
    ]) {
      const response = await ask(host);
      expect(response.status, host).toBe(421);
      expect(await codeOf(response)).toBe('host_not_allowed');
      expect((await ask(host, '/livez')).status, host).toBe(200);
    }
  });

  test.each(['0.0.0.0', '::', '192.0.2.1'])('HOST=%s is refused, with the way out', async (HOST) => {
    await using folder = await createTempFolder();
    await using program = startProgram('src/main.ts', {
      PORT: '0',
      DATA_DIR: folder.path,
      MODEL: 'builtin',
      HOST,
    });
    expect(await program.ended).toBe(1);
    const [line = ''] = program.output.split('\n');
    expect(line).toContain(`HOST ${HOST}`);
    expect(line).toContain('API_KEYS');
    expect(line).toContain('ALLOW_ANONYMOUS=true');
    expect(program.output).not.toContain('listening');
  });

  test.each([{ ALLOW_ANONYMOUS: 'true' }, { API_KEYS }])(
    'HOST=0.0.0.0 is served with %j',
    async (settings) => {
      await using context = await createTestContext({ PORT: '0', HOST: '0.0.0.0', ...settings });
      const server = await startServer(context);
      const { port } = new URL(server.url);
      expect((await fetch(`http://127.0.0.1:${port}/livez`)).status).toBe(200);
      await server.stop();
    },
  );
});

test('faulty keys are reported without their text', async () => {
  for (const faulty of ['shop:search', 'shop:fly:x', `${shop.entry}:more`, `${shop.entry},${shop.entry}`]) {
    await expect(createTestContext({ API_KEYS: faulty })).rejects.toThrow(/^API_KEYS must/);
    await expect(createTestContext({ API_KEYS: faulty })).rejects.not.toThrow(/shop/);
  }
});
