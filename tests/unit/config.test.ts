import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseEnv } from 'node:util';
import { describe, expect, onTestFinished, test } from 'vitest';
import { toDocument, toEnvExample } from '../../scripts/settings-docs.ts';
import { createChecks } from '../../src/cli/doctor/checks.ts';
import { parseConfig } from '../../src/config/config.ts';
import { readEnvironment } from '../../src/config/env.ts';
import { VitrineError } from '../../src/errors/vitrine-error.ts';

test('an empty environment is an embedded installation on loopback', () => {
  const config = parseConfig({});
  expect(config).toMatchObject({
    host: '127.0.0.1',
    port: 8000,
    dataDir: resolve('data'),
    allowFlush: false,
  });
  expect(config.queue.redis).toBeUndefined();
  expect(config.store.qdrantUrl).toBeUndefined();
  expect(config.images.roots).toEqual([]);
});

test('an empty value counts as unset', () => {
  expect(parseConfig({ PORT: '', REDIS_URL: '' })).toEqual(parseConfig({}));
});

test('all faults are reported together, by name and never by value', () => {
  const secrets = {
    PORT: 'secret-1',
    REDIS_URL: 'http://secret-2',
    RETRY_JITTER: '7',
    ALLOW_FLUSH: 'secret-3',
  };
  try {
    parseConfig(secrets);
    expect.unreachable();
  } catch (error) {
    expect(error).toBeInstanceOf(VitrineError);
    const { code, message, faults } = error as VitrineError;
    expect(code).toBe('invalid_configuration');
    expect(faults?.map(({ path }) => path).toSorted()).toEqual(Object.keys(secrets).toSorted());
    for (const name of Object.keys(secrets)) expect(message).toContain(name);
    expect(message).not.toContain('secret');
  }
});

test('it is frozen, to its leaves', () => {
  const config = parseConfig({ IMAGE_ROOTS: '/a, /b' });
  expect(config.images.roots).toEqual([resolve('/a'), resolve('/b')]);
  expect(
    Object.isFrozen(config) && Object.isFrozen(config.queue.retry) && Object.isFrozen(config.images.roots),
  ).toBe(true);
});

describe('Redis', () => {
  test('REDIS_HOST chooses it, and its password may hold any character', () => {
    const password = ' p@ss:w/rd%41?#"\'';
    const { redis } = parseConfig({
      REDIS_HOST: 'cache',
      REDIS_PORT: '7000',
      REDIS_DB: '2',
      REDIS_PASSWORD: password,
    }).queue;
    expect(redis).toEqual({ kind: 'single', options: { host: 'cache', port: 7000, db: 2, password } });
    expect(parseConfig({ REDIS_HOST: 'cache' }).queue.redis).toEqual({
      kind: 'single',
      options: { host: 'cache', port: 6379, db: 0 },
    });
  });

  test('REDIS_URL wins over the other settings', () => {
    const parts = { REDIS_HOST: 'cache', REDIS_PORT: '7000', REDIS_DB: '2', REDIS_PASSWORD: 'secret' };
    const { redis } = parseConfig({ ...parts, REDIS_URL: 'redis://other' }).queue;
    expect(redis).toEqual({ kind: 'single', options: { host: 'other', port: 6379, db: 0 } });
  });

  test('a password alone does not choose it: docker compose reads it from the same file', () => {
    expect(parseConfig({ REDIS_PASSWORD: 'secret' }).queue.redis).toBeUndefined();
  });

  test('a port without a host is a mistake', () => {
    expect(() => parseConfig({ REDIS_PORT: '7000' })).toThrow('REDIS_PORT needs REDIS_HOST.');
  });
});

describe('image hosts', () => {
  const faultOf = (environment: Readonly<Record<string, string>>): VitrineError => {
    try {
      parseConfig(environment);
    } catch (error) {
      return error as VitrineError;
    }
    throw new Error('It was accepted.');
  };

  test('are allowed by name and by network', () => {
    const { images } = parseConfig({
      IMAGE_ALLOWED_HOSTS: 'images.internal, cdn.internal:8443, [::1]:9000, ::1, 10.0.0.7',
      IMAGE_ALLOWED_NETWORKS: '10.20.0.0/16, fd00::/8',
      IMAGE_CONTACT: 'catalog@shop.example',
    });
    expect(images).toMatchObject({
      allowedHosts: ['images.internal', 'cdn.internal:8443', '[::1]:9000', '::1', '10.0.0.7'],
      allowedNetworks: ['10.20.0.0/16', 'fd00::/8'],
      contact: 'catalog@shop.example',
    });
  });

  test.each([
    [{ IMAGE_ALLOWED_HOSTS: '10.0.0.0/8' }, 'networks belong in IMAGE_ALLOWED_NETWORKS'],
    [{ IMAGE_ALLOWED_HOSTS: 'http://images.internal' }, 'must be host names'],
    [{ IMAGE_ALLOWED_HOSTS: 'user@images.internal' }, 'must be host names'],
    [{ IMAGE_ALLOWED_NETWORKS: 'images.internal' }, 'host names belong in IMAGE_ALLOWED_HOSTS'],
    [{ IMAGE_ALLOWED_NETWORKS: '10.0.0.7' }, 'must be networks'],
    [{ IMAGE_CONTACT: 'me) evil' }, 'must be a URL or an email address'],
    [
      { IMAGE_ALLOW_HOSTS: 'images.internal' },
      'is now IMAGE_ALLOWED_HOSTS for names and IMAGE_ALLOWED_NETWORKS for networks',
    ],
  ])('%j is a mistake', (environment, words) => {
    expect(faultOf(environment)).toMatchObject({
      code: 'invalid_configuration',
      message: expect.stringContaining(words),
    });
  });

  test('may have header fields of their own', () => {
    const headers = { 'img.example.com': { Authorization: 'Bearer s', 'X-Key': 'é' }, 'a:8080': {} };
    expect(parseConfig({ IMAGE_SOURCE_HEADERS: JSON.stringify(headers) }).images.sourceHeaders).toEqual({
      'img.example.com': { authorization: 'Bearer s', 'x-key': 'é' },
      'a:8080': {},
    });
    expect(parseConfig({}).images.sourceHeaders).toEqual({});
  });

  test.each([
    '{"img.example.com": {"Authorization": "secret"}',
    '["secret"]',
    '{"img.example.com": "secret"}',
    '{"https://img.example.com/": {"Authorization": "secret"}}',
    '{"img.example.com": {"Authorization": 5}}',
    '{"img.example.com": {"Authorization": "secret\\r\\nHost: other"}}',
    '{"img.example.com": {"Auth orization": "secret"}}',
    '{"img.example.com": {"Host": "secret"}}',
    '{"img.example.com": {"Content-Length": "5"}}',
    '{"img.example.com": {"Accept-Encoding": "gzip"}}',
  ])('have no header fields like %s, and their values are never shown', async (value) => {
    const environment = { IMAGE_SOURCE_HEADERS: value };
    const { message, faults } = faultOf(environment);
    expect(message).toContain('IMAGE_SOURCE_HEADERS must be a JSON object');
    expect(`${message} ${JSON.stringify(faults)}`).not.toContain('secret');
    const found = await Promise.all(createChecks(environment).map((check) => check.run()));
    expect(JSON.stringify(found)).not.toContain('secret');
  });
});

describe('webhook secrets', () => {
  const [one, other] = [24, 64].map((bytes) => `whsec_${Buffer.alloc(bytes, bytes).toString('base64')}`);

  test('may be several, separated by commas, or lines as in a file', () => {
    expect(parseConfig({}).webhooks.secrets).toEqual([]);
    for (const separator of [',', ', ', '\n', '\r\n']) {
      const { secrets } = parseConfig({ WEBHOOK_SECRETS: `${one}${separator}${other}` }).webhooks;
      expect(secrets).toEqual([one, other]);
    }
  });

  test.each([
    'hunter2',
    'whsec_',
    `whsec_${'A'.repeat(28)}`,
    `whsec_${'A'.repeat(120)}`,
    'whsec_not-base64-at-all!',
  ])('%j is refused, and not repeated', (secret) => {
    const parse = () => parseConfig({ WEBHOOK_SECRETS: `${one},${secret}` });
    expect(parse).toThrow('WEBHOOK_SECRETS must be secrets of the form whsec_ and 24 to 64 bytes in base64');
    expect(parse).not.toThrow(secret === 'whsec_' ? one : secret);
  });
});

test('the retry settings are explicit when one of them is set', () => {
  const { retry, retryIsExplicit } = parseConfig({}).queue;
  expect(retry).toEqual({ attempts: 8, baseMs: 30_000, factor: 3, capMs: 7_200_000, jitter: 0.2 });
  expect(retryIsExplicit).toBe(false);
  expect(parseConfig({ RETRY_ATTEMPTS: '8' }).queue.retryIsExplicit).toBe(true);
});

test('sizes and times have the units of their names', () => {
  const { settings, spool } = parseConfig({ ENDED_TTL_HOURS: '0.5', SPOOL: 'off', SPOOL_MAX_MB: '3' }).queue;
  expect(settings).toEqual({
    lease: { leaseMs: 15_000, staleHeartbeatMs: 10_000, outageMs: 5_000 },
    maxPending: 0,
    endedTtlMs: 1_800_000,
    maxEnded: 1_000_000,
    maxDead: 100_000,
    maxDeadInlineBytes: 200_000_000,
  });
  expect(spool).toEqual({ enabled: false, maxBytes: 3_000_000 });
});

describe('a secret in a file', () => {
  function readWith(variables: Readonly<Record<string, string>>) {
    const folder = mkdtempSync(join(tmpdir(), 'vitrine-test-'));
    onTestFinished(() => rmSync(folder, { recursive: true }));
    writeFileSync(join(folder, 'secret'), ' p@ss\n\n');
    const lines = Object.entries(variables).map(
      ([name, value]) => `${name}=${value.replace('$FOLDER', folder)}`,
    );
    writeFileSync(join(folder, '.env'), lines.join('\n'));
    return readEnvironment(folder);
  }

  test.each(['REDIS_PASSWORD', 'QDRANT_API_KEY', 'IMAGE_SOURCE_HEADERS'])(
    '%s is read, without the line break at its end',
    (name) => {
      expect(readWith({ [`${name}_FILE`]: '$FOLDER/secret' })[name]).toBe(' p@ss\n');
    },
  );

  test('that can not be read is reported by the name of its setting', () => {
    expect(() => readWith({ REDIS_PASSWORD_FILE: '$FOLDER/missing' })).toThrow(
      "REDIS_PASSWORD_FILE names a file that can't be read.",
    );
  });

  test('must not be set directly as well', () => {
    const both = { QDRANT_API_KEY: 'key', QDRANT_API_KEY_FILE: '$FOLDER/secret' };
    expect(() => readWith(both)).toThrow("QDRANT_API_KEY_FILE can't be set together with QDRANT_API_KEY.");
  });
});

describe('what is written from the definitions', () => {
  const read = (file: string) => readFileSync(join(import.meta.dirname, '../..', file), 'utf8');

  test('.env.example is up to date; else run `node scripts/settings-docs.ts`', () => {
    expect(read('.env.example')).toBe(toEnvExample());
  });

  test('the tables of docs/configuration.md are up to date; else run `node scripts/settings-docs.ts`', () => {
    const document = read('docs/configuration.md');
    expect(document).toBe(toDocument(document));
  });

  test('.env.example holds the defaults', () => {
    const example = parseEnv(read('.env.example').replaceAll(/^#(?=[A-Z_]+=)/gm, ''));
    const { queue, ...others } = parseConfig(example);
    expect({ ...others, queue: { ...queue, retryIsExplicit: false } }).toEqual(parseConfig({}));
  });
});

test('what is set for the process wins over .env', () => {
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-test-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, '.env'), 'PATH=from-file\nQDRANT_COLLECTION="from file"\n');
  const environment = readEnvironment(folder);
  expect(environment['QDRANT_COLLECTION']).toBe('from file');
  expect(environment['PATH']).toBe(process.env['PATH']);
});
