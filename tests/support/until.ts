import { setTimeout as sleep } from 'node:timers/promises';

/** Waits until the probe gives something else than undefined, null or false; fails after a generous deadline. */
export async function until<T>(
  what: string,
  probe: () => Promise<T> | T,
  deadlineMs = 20_000,
): Promise<Exclude<T, undefined | null | false>> {
  const end = performance.now() + deadlineMs;
  for (;;) {
    const found = await probe();
    if (found !== undefined && found !== null && found !== false) {
      return found as Exclude<T, undefined | null | false>;
    }
    if (performance.now() > end) throw new Error(`waited ${deadlineMs} ms in vain until ${what}`);
    await sleep(10);
  }
}
