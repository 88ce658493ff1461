import { once } from 'node:events';
import { createWorker } from '../workers/worker.ts';
import type { Config } from './config/config.ts';
import { createContext } from './context.ts';
import { startServer } from './http/server.ts';

export interface ServeOptions {
  readonly config: Config;
  /** Whether this process also runs a worker. Default: when there is no Redis, since no other process could. */
  readonly worker?: boolean | undefined;
  readonly signal: AbortSignal;
  /** Called when requests are answered. A failure of it ends the server. */
  onListening?(url: string, withWorker: boolean): Promise<void> | void;
}

/**
 * Runs the API, with a worker in the same process where there is no Redis, until the signal is aborted; then both
 * drain. The only way the API is started.
 * @throws VitrineError when the address is taken, or the worker can't start
 */
export async function serve({ config, signal, onListening, ...options }: ServeOptions): Promise<void> {
  await using context = await createContext(config, {}, { isApi: true });
  const withWorker = options.worker ?? config.queue.redis === undefined;
  const aborted = signal.aborted ? Promise.resolve() : once(signal, 'abort');
  const server = await startServer(context);
  const worker = withWorker ? createWorker(context) : undefined;
  const working = worker?.run();
  const answering = (async () => {
    await onListening?.(server.url, withWorker);
    await aborted;
  })();
  try {
    // A worker that fails ends the server too: nobody would take the jobs it accepts.
    await (working === undefined ? answering : Promise.race([answering, working]));
  } finally {
    worker?.stop();
    await Promise.all([server.stop(), working?.catch(() => undefined)]);
  }
}
