import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
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
  expect(config.queue.redisUrl).toBeUndefined();
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

test('what is set for the process wins over .env', () => {
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-test-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  writeFileSync(join(folder, '.env'), 'PATH=from-file\nQDRANT_COLLECTION="from file"\n');
  const environment = readEnvironment(folder);
  expect(environment['QDRANT_COLLECTION']).toBe('from file');
  expect(environment['PATH']).toBe(process.env['PATH']);
});
