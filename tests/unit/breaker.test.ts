import { expect, test } from 'vitest';
import type { Clock } from '../../src/observability/clock.ts';
import { createBreaker } from '../../workers/breaker.ts';

function createSleepRecorder(): Pick<Clock, 'sleep'> & { readonly slept: number[] } {
  const slept: number[] = [];
  return {
    slept,
    async sleep(ms) {
      slept.push(ms);
    },
  };
}

test('opens, waits longer with each failed probe, and closes with the first that succeeds', async () => {
  const clock = createSleepRecorder();
  let failures = 3;
  const breaker = createBreaker({
    clock,
    firstWaitMs: 100,
    maxWaitMs: 300,
    async probe() {
      if (failures-- > 0) throw new Error('down');
    },
  });
  await breaker.whenClosed(new AbortController().signal);
  expect(clock.slept).toEqual([]);

  breaker.open();
  expect(breaker.isOpen).toBe(true);
  await breaker.whenClosed(new AbortController().signal);
  expect(breaker.isOpen).toBe(false);
  expect(clock.slept).toEqual([100, 200, 300, 300]);
});

test('opening again without a success in between waits longer; a success starts over', async () => {
  const clock = createSleepRecorder();
  const breaker = createBreaker({ clock, firstWaitMs: 100, maxWaitMs: 1_000, probe: async () => undefined });
  const never = new AbortController().signal;
  for (const succeeds of [false, false, true, false]) {
    breaker.open();
    await breaker.whenClosed(never);
    if (succeeds) breaker.succeed();
  }
  expect(clock.slept).toEqual([100, 200, 400, 100]);
});

test('does not wait for a probe that never answers when the signal is aborted', async () => {
  const stop = new AbortController();
  const probing = Promise.withResolvers<void>();
  const breaker = createBreaker({
    clock: createSleepRecorder(),
    firstWaitMs: 100,
    maxWaitMs: 300,
    probe() {
      probing.resolve();
      return new Promise<never>(() => undefined);
    },
  });
  breaker.open();
  const closed = breaker.whenClosed(stop.signal);
  await probing.promise;
  stop.abort();
  await closed;
  expect(breaker.isOpen).toBe(true);
});
