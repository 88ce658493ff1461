import { setTimeout as delay } from 'node:timers/promises';
import type { Clock } from './clock.ts';

export const systemClock: Clock = {
  now: () => Date.now(),
  monotonic: () => performance.now(),
  startTimer(ms, onTimeout) {
    const timer = setTimeout(onTimeout, ms);
    return { [Symbol.dispose]: () => clearTimeout(timer) };
  },
  async sleep(ms, signal) {
    await delay(ms, undefined, signal === undefined ? {} : { signal }).catch(() => undefined);
  },
};
