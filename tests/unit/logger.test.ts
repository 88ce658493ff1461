import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { VitrineError } from '../../src/errors/vitrine-error.ts';
import { createLogger, redact } from '../../src/observability/logger.ts';
import { until } from '../support/until.ts';

test.each([
  ['redis://:pass@host:6379/0', 'redis://***@host:6379/0'],
  ['at https://user:pass@a.b/c and rediss://x@y', 'at https://***@a.b/c and rediss://***@y'],
  ['https://a.b/c?mail=me@example.com', 'https://a.b/c?mail=me@example.com'],
])('redact(%j)', (text, expected) => {
  expect(redact(text)).toBe(expected);
});

test('errors are logged with their code, without secrets, and with a stack only where nobody foresaw them', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-test-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'logs', 'worker.log');
  const logger = createLogger({ level: 'info', file });
  const cause = new Error('connect redis://:pass@host failed');
  logger.warn({ error: new VitrineError('queue_unavailable', 'Redis is away.', { cause }) }, 'known');
  logger.error({ error: new TypeError('at redis://:pass@host') }, 'unknown');
  logger.debug('not at this level');

  const lines = await until('both lines', () => {
    const written = readFileSync(file, 'utf8').trim().split('\n');
    return written.length === 2 ? written : undefined;
  });
  expect(lines.join()).not.toContain('pass');
  const [known, unknown] = lines.map((line) => JSON.parse(line));
  expect(known).toMatchObject({
    level: 'warn',
    msg: 'known',
    error: { code: 'queue_unavailable', message: 'Redis is away.', cause: 'connect redis://***@host failed' },
  });
  expect(known.error).not.toHaveProperty('stack');
  expect(unknown.error).toMatchObject({ name: 'TypeError', stack: expect.stringContaining('logger.test') });
});
