import { expect, test } from 'vitest';
import type { ErrorCode } from '../../src/errors/error-table.ts';
import { VitrineError } from '../../src/errors/vitrine-error.ts';
import { createFailures } from '../../src/thumbnails/failures.ts';
import { createFakeClock } from '../support/fake-clock.ts';

const HOST = 'images.example.com';

function open() {
  const clock = createFakeClock();
  const failures = createFailures(clock);
  const isKnown = (key: string, host: string | null = HOST) => {
    try {
      failures.throwKnown(key, host);
      return false;
    } catch {
      return true;
    }
  };
  const fail = (key: string, code: ErrorCode, retryAfterMs?: number) =>
    failures.add(key, HOST, new VitrineError(code, 'It failed.', retryAfterMs ? { retryAfterMs } : {}));
  return { clock, failures, isKnown, fail };
}

test('a failure is remembered for a minute, and only of its picture', async () => {
  const { clock, isKnown, fail } = open();
  fail('a', 'image_not_found');
  expect([isKnown('a'), isKnown('b')]).toEqual([true, false]);
  await clock.advance(59_999);
  expect(isKnown('a')).toBe(true);
  await clock.advance(1);
  expect(isKnown('a')).toBe(false);
});

test('a host that asks to slow down is left alone for as long as it asks', async () => {
  const { clock, isKnown, fail } = open();
  fail('a', 'image_host_busy', 120_000);
  await clock.advance(119_999);
  expect([isKnown('a'), isKnown('b'), isKnown('b', 'other.example.com'), isKnown('b', null)]).toEqual([
    true,
    true,
    false,
    false,
  ]);
  await clock.advance(1);
  expect([isKnown('a'), isKnown('b')]).toEqual([false, false]);
});

test('what passes by itself is tried again after seconds', async () => {
  const { clock, isKnown, fail } = open();
  fail('a', 'image_host_slow');
  await clock.advance(5_000);
  expect(isKnown('a')).toBe(false);
});

test('a host that asks to wait for days is asked again after ten minutes', async () => {
  const { clock, isKnown, fail } = open();
  fail('a', 'image_host_busy', 86_400_000);
  await clock.advance(600_000);
  expect(isKnown('b')).toBe(false);
});

test('a host is taken to be down after four failures in a row', () => {
  const { failures, isKnown, fail } = open();
  for (const key of ['a', 'b', 'c']) fail(key, 'image_fetch_timeout');
  failures.succeed(HOST);
  for (const key of ['d', 'e', 'f']) fail(key, 'image_server_error');
  expect(isKnown('x')).toBe(false);
  fail('g', 'image_fetch_failed');
  expect(isKnown('x')).toBe(true);
});

test('pictures that are broken or gone say nothing of their host', () => {
  const { isKnown, fail } = open();
  for (const key of ['a', 'b', 'c', 'd', 'e']) fail(key, 'image_not_found');
  for (const key of ['f', 'g', 'h', 'i', 'j']) fail(key, 'image_corrupt');
  expect(isKnown('x')).toBe(false);
});
