import { parseConfig } from '../config/config.ts';
import { serve } from '../serve.ts';
import type { Terminal } from './terminal.ts';

interface Options {
  readonly host?: string | undefined;
  readonly port?: string | undefined;
  readonly worker?: boolean | undefined;
}

export async function serveCommand({ host, port, worker }: Options, terminal: Terminal): Promise<number> {
  const config = parseConfig({
    ...terminal.environment,
    ...(host !== undefined && { HOST: host }),
    ...(port !== undefined && { PORT: port }),
  });
  await serve({
    config,
    worker,
    signal: terminal.signal,
    onListening(url, withWorker) {
      if (!terminal.stderr.isTTY) return;
      const workers = withWorker ? 'with a worker' : 'start workers with `vitrine worker`';
      terminal.stderr.write(`Vitrine runs at ${url} (${workers}); its documentation is at ${url}/docs\n`);
    },
  });
  return 0;
}
