import { setTimeout as delay } from 'node:timers/promises';

/**
 * The first answer of `probe` that isn't undefined, asked again and again. No speed is asserted: the deadline is
 * only there so that a broken test ends.
 */
export async function until<T>(
  what: string,
  probe: () => Promise<T | undefined> | T | undefined,
  deadlineMs = 60_000,
): Promise<T> {
  const end = performance.now() + deadlineMs;
  for (;;) {
    const answer = await probe();
    if (answer !== undefined) return answer;
    if (performance.now() > end) throw new Error(`Waited ${deadlineMs} ms for: ${what}`);
    await delay(50);
  }
}
