import { expect, test } from 'vitest';
import type { Clock } from '../../src/observability/clock.ts';
import { createBreaker } from '../../workers/breaker.ts';

function createFakeClock(): Clock & { readonly slept: number[] } {
  const slept: number[] = [];
  return {
    slept,
    now: () => 0,
    monotonic: () => 0,
    async sleep(ms) {
      slept.push(ms);
    },
  };
}

test('opens, waits longer with each failed probe, and closes with the first that succeeds', async () => {
  const clock = createFakeClock();
  let failures = 3;
  const breaker = createBreaker({
    clock,
    firstWaitMs: 100,
    maxWaitMs: 300,
    async probe() {
      if (failures-- > 0) throw new Error('down');
    },
  });
  await breaker.untilClosed(new AbortController().signal);
  expect(clock.slept).toEqual([]);

  breaker.open();
  expect(breaker.isOpen).toBe(true);
  await breaker.untilClosed(new AbortController().signal);
  expect(breaker.isOpen).toBe(false);
  expect(clock.slept).toEqual([100, 200, 300, 300]);
});

test('opening again without a success between waits longer; a success starts anew', async () => {
  const clock = createFakeClock();
  const breaker = createBreaker({ clock, firstWaitMs: 100, maxWaitMs: 1_000, probe: async () => undefined });
  const never = new AbortController().signal;
  for (const succeeds of [false, false, true, false]) {
    breaker.open();
    await breaker.untilClosed(never);
    if (succeeds) breaker.succeed();
  }
  expect(clock.slept).toEqual([100, 200, 400, 100]);
});
