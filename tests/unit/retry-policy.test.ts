import { describe, expect, test } from 'vitest';
import { mayRetry, SOON, toRetryDelayMs, toRetryPolicy } from '../../src/queue/retry-policy.ts';

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

describe('toRetryPolicy', () => {
  const data = {};
  const byDefault = { retry: { ...policy, attempts: 8 }, retryIsExplicit: false };
  const explicit = { ...byDefault, retryIsExplicit: true };

  test('takes the settings for failures that pass later, with the attempts of the job', () => {
    expect(toRetryPolicy('later', { data, maxAttempts: 5 }, byDefault)).toEqual({ ...policy, attempts: 5 });
  });

  test('takes a few attempts within seconds for failures that pass soon or never', () => {
    expect(toRetryPolicy('soon', { data, maxAttempts: 8 }, byDefault)).toEqual(SOON);
    expect(toRetryPolicy('soon', { data, maxAttempts: 1 }, byDefault).attempts).toBe(1);
  });

  test('lets explicit settings and those of the job win', () => {
    expect(toRetryPolicy('soon', { data, maxAttempts: 8 }, explicit)).toEqual({ ...policy, attempts: 8 });
    const own = { retry: { baseMs: 5 } };
    expect(toRetryPolicy('soon', { data: own, maxAttempts: 8 }, byDefault)).toEqual({
      ...policy,
      attempts: 8,
      baseMs: 5,
    });
  });
});
