import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import fc from 'fast-check';
import { expect, onTestFinished, test } from 'vitest';
import { VitrineError } from '../../src/errors/vitrine-error.ts';
import { createLogger } from '../../src/observability/logger.ts';
import { redact, toSafeLine } from '../../src/observability/redact.ts';
import { root } from '../support/program.ts';
import { until } from '../support/until.ts';

test.each([
  ['redis://:pass@host:6379/0', 'redis://***@host:6379/0'],
  ['at https://user:pass@a.b/c and rediss://x@y', 'at https://***@a.b/c and rediss://***@y'],
  ['https://a.b/c?sig=secret&me@example.com failed', 'https://a.b/c?*** failed'],
  ['https://u:p@a.b/c?d#e', 'https://***@a.b/c?***'],
  ['{"url":"https://a.b/c?sig=secret","n":1}', '{"url":"https://a.b/c?***","n":1}'],
  ['with vitrine_aPeqIsVzt2mDlXUqrMSzYBGjqAg', 'with vitrine_***'],
  ['Authorization: Bearer abc.def', 'Authorization: Bearer ***'],
  ['data:image/png;base64,aGVsbG8=', 'data:***'],
  [`image ${'aGVsbG8'.repeat(40)}==!`, 'image ***!'],
  ['at file:///work/src/main.ts:1:2, what? yes', 'at file:///work/src/main.ts:1:2, what? yes'],
])('redact(%j)', (text, expected) => {
  expect(redact(text)).toBe(expected);
});

test('errors are logged with their code, without secrets, and with a stack only where nobody foresaw them', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-test-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'logs', 'worker.log');
  const logger = createLogger({ level: 'info', file });
  const cause = new Error('connect redis://:pass@host failed');
  logger.warn({ error: new VitrineError('queue_unavailable', 'Redis is unreachable.', { cause }) }, 'known');
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
    error: {
      code: 'queue_unavailable',
      message: 'Redis is unreachable.',
      cause: 'connect redis://***@host failed',
    },
  });
  expect(known.error).not.toHaveProperty('stack');
  expect(unknown.error).toMatchObject({ name: 'TypeError', stack: expect.stringContaining('logger.test') });
});

test('whatever is logged, its line is JSON of at most 8 KB, and without secrets', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-test-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  const file = join(folder, 'log');
  const logger = createLogger({ level: 'info', file });
  const secrets = { url: 'https://a.b/c?hunter2', nested: [{ image: 'hunter2A'.repeat(1_000) }] };
  const error = new Error(`${'long '.repeat(10_000)} redis://:hunter2@host`);
  const cause = new Error('vitrine_hunter2hunter2 at https://a.b/?hunter2');
  const entries: readonly (readonly [object, string])[] = [
    [secrets, 'short'],
    [{ error }, 'long error'],
    [{ error: new VitrineError('queue_unavailable', 'Bearer hunter2', { cause }) }, 'known error'],
    [{ path: `/products/${'%F0%9F'.repeat(2_000)}` }, 'long path'],
    [Object.fromEntries(Array.from({ length: 3_000 }, (_, at) => [`field${at}`, 'é'])), 'many fields'],
    [{}, 'x y '.repeat(10_000)],
  ];
  for (const [entry, message] of entries) logger.info(entry, message);
  const lines = await until('the lines', () => {
    const written = readFileSync(file, 'utf8').trim().split('\n');
    return written.length === entries.length ? written : undefined;
  });
  for (const line of lines) {
    expect(Buffer.byteLength(line)).toBeLessThanOrEqual(8_192);
    expect(line).not.toContain('hunter2');
    expect(JSON.parse(line)).toMatchObject({ level: 'info', msg: expect.any(String) });
  }
  expect(JSON.parse(lines[1] ?? '')).toMatchObject({ is_cut: true, error: { name: 'Error' } });
});

test('a line of any text stays JSON', () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.jsonValue()), fc.string({ maxLength: 9_000 }), (entry, msg) => {
      const line = toSafeLine(`${JSON.stringify({ ...entry, msg })}\n`);
      expect(Buffer.byteLength(line)).toBeLessThanOrEqual(8_192);
      JSON.parse(line);
    }),
  );
});

test.each(['a', 'a://', '://', 'data:', 'a:a@', 'Bearer ', '"'])(
  'a long text of %j takes no long',
  (unit) => {
    const from = performance.now();
    toSafeLine(JSON.stringify({ msg: unit.repeat(Math.ceil(16_384 / unit.length)) }));
    expect(performance.now() - from).toBeLessThan(3 * 100);
  },
);

test('what waits to be written when the process exits is not lost', async () => {
  const program = `
    import { createLogger } from '${join(root, 'src/observability/logger.ts')}';
    const logger = createLogger({ level: 'info', file: undefined });
    for (let n = 0; n < 5000; n++) logger.info({ n }, 'a line of some length, so that the pipe is full');
    process.exit(0);`;
  const args = ['--input-type=module-typescript', '--eval', program];
  const { stdout } = await promisify(execFile)(process.execPath, args, { maxBuffer: 10_000_000 });
  const numbers = stdout
    .trim()
    .split('\n')
    .map((line) => (JSON.parse(line) as { n: number }).n);
  expect(numbers).toEqual(Array.from({ length: 5_000 }, (_, n) => n));
});
