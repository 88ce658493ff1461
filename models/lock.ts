import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as delay } from 'node:timers/promises';

const POLL_MS = 200;

/**
 * Waits for a lock between processes, and gives what releases it. Node has no file locks but SQLite has: the
 * system drops them when their process ends, however it ends, so none is ever stale.
 * @throws the signal's reason when it aborts first
 */
export async function lockFile(path: string, signal: AbortSignal): Promise<Disposable> {
  mkdirSync(dirname(path), { recursive: true });
  const database = new DatabaseSync(path, { timeout: 0 });
  try {
    for (;;) {
      signal.throwIfAborted();
      try {
        database.exec('BEGIN EXCLUSIVE');
        return { [Symbol.dispose]: () => database.close() };
      } catch (error) {
        const isLocked = error instanceof Error && 'errcode' in error && error.errcode === 5;
        if (!isLocked) throw error;
        await delay(POLL_MS, undefined, { signal });
      }
    }
  } catch (error) {
    database.close();
    throw error;
  }
}
