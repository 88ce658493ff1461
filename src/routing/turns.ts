import { setImmediate } from 'node:timers/promises';

/** Far below what a client of another request notices. */
const TURN_MS = 10;

/**
 * For long work in small steps: called after each step, it lets other requests have their turn when this work has had
 * its own.
 */
export function createTurns(): () => Promise<void> | undefined {
  let from = performance.now();
  return () => {
    if (performance.now() - from < TURN_MS) return undefined;
    return setImmediate().then(() => {
      from = performance.now();
    });
  };
}
