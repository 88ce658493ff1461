import { once } from 'node:events';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';

/** Asks a server's /livez all the time. */
export interface LivezWatch extends AsyncDisposable {
  /** The longest that /livez took since this was last asked. @throws when it once did not answer 200 */
  readSlowestMs(): Promise<number>;
}

export function watchLivez(url: string): LivezWatch {
  const watcher = new Worker(join(import.meta.dirname, 'livez-thread.ts'), { workerData: url });
  return {
    async readSlowestMs() {
      watcher.postMessage('read');
      const [{ slowestMs, failure }] = (await once(watcher, 'message')) as [
        { slowestMs: number; failure: string | null },
      ];
      if (failure !== null) throw new Error(`/livez: ${failure}`);
      return slowestMs;
    },
    async [Symbol.asyncDispose]() {
      await watcher.terminate();
    },
  };
}
