import { parseConfig } from '../config/config.ts';
import type { Environment } from '../config/env.ts';
import { addImageRoots } from './client.ts';
import { defineCommand } from './command.ts';

export interface ServeOptions {
  readonly environment: Environment;
  /** Whether this process also works; undefined: when the queue is the embedded one. */
  readonly worker: boolean | undefined;
  /** Also readable by path, beside IMAGE_ROOTS. */
  readonly ownFolders?: readonly string[];
  readonly signal: AbortSignal;
  /** Called when requests are answered, with the address. What it gives is waited for before the end. */
  onListening(url: string, withWorker: boolean): Promise<void> | void;
}

export const serveCommand = defineCommand({
  name: 'serve',
  drains: true,
  summary: 'Run the HTTP API, with a worker inside when no REDIS_URL is set',
  options: {
    host: { type: 'string', hint: 'HOST', help: 'the address to listen on (HOST)' },
    port: { type: 'string', short: 'p', hint: 'PORT', help: 'the port to listen on (PORT)' },
    worker: { type: 'boolean', help: 'work in this process too; --no-worker: only answer requests' },
  },
  examples: ['vitrine serve', 'vitrine serve --port 9000', 'vitrine serve --host 0.0.0.0 --no-worker'],
  async run({ host, port, worker }, _args, terminal) {
    const environment = {
      ...terminal.environment,
      ...(host !== undefined && { HOST: host }),
      ...(port !== undefined && { PORT: port }),
    };
    await serve({
      environment,
      worker,
      signal: terminal.signal,
      onListening(url, withWorker) {
        if (!terminal.stderr.isTTY) return;
        const workers = withWorker ? 'with a worker inside' : 'start workers with `vitrine worker`';
        terminal.stderr.write(`Vitrine at ${url} (${workers}), its documentation at ${url}/docs\n`);
      },
    });
    return 0;
  },
});

/**
 * Runs the API, and a worker where asked, until the signal; then both drain.
 * @throws VitrineError when the settings are wrong, the address is taken, or the worker can't begin
 */
export async function serve(options: ServeOptions): Promise<void> {
  const [{ createContext }, { startServer }, { createWorker }] = await Promise.all([
    import('../context.ts'),
    import('../http/server.ts'),
    import('../../workers/worker.ts'),
  ]);
  const config = addImageRoots(parseConfig(options.environment), options.ownFolders ?? []);
  await using context = await createContext(config);
  const server = await startServer(context);
  const withWorker = options.worker ?? config.queue.redisUrl === undefined;
  const worker = withWorker ? createWorker(context) : null;
  const { promise: asked, resolve } = Promise.withResolvers<void>();
  options.signal.addEventListener('abort', () => resolve(), { once: true });
  if (options.signal.aborted) resolve();
  const working = worker?.run();
  try {
    const listening = Promise.resolve(options.onListening(server.url, withWorker));
    const broken = working?.then(() => Promise.withResolvers<never>().promise) ?? asked;
    await Promise.race([Promise.all([listening, asked]), broken]);
  } finally {
    worker?.stop();
    await Promise.all([server.stop(), working?.catch(() => {})]);
  }
}
