import { describe, expect, test } from 'vitest';
import { mayRetry, toRetryDelayMs } from '../../src/queue/retry-policy.ts';

const policy = { attempts: 4, baseMs: 2_000, factor: 2, capMs: 60_000, jitter: 0.2 };

describe('toRetryDelayMs', () => {
  test.each([
    [1, 2_000],
    [2, 4_000],
    [3, 8_000],
    [20, 60_000],
  ])('attempt %i waits %i ms in the middle of its jitter', (attempt, expected) => {
    expect(toRetryDelayMs(policy, attempt, 0.5)).toBe(expected);
  });

  test('jitter spreads it by its share to both sides', () => {
    expect(toRetryDelayMs(policy, 1, 0)).toBe(1_600);
    expect(toRetryDelayMs(policy, 1, 1)).toBe(2_400);
  });

  test('what the other side asked for is the least', () => {
    expect(toRetryDelayMs(policy, 1, 0.5, 90_000)).toBe(90_000);
    expect(toRetryDelayMs(policy, 3, 0.5, 100)).toBe(8_000);
  });
});

test('the last attempt is not retried', () => {
  expect([1, 2, 3, 4, 5].map((attempt) => mayRetry(policy, attempt))).toEqual([
    true,
    true,
    true,
    false,
    false,
  ]);
});
