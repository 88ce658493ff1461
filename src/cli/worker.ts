import { createWorker } from '../../workers/worker.ts';
import { parseConfig } from '../config/config.ts';
import { createContext } from '../context.ts';
import type { Terminal } from './terminal.ts';

interface Options {
  readonly concurrency?: string | undefined;
  readonly batchSize?: string | undefined;
  readonly once?: boolean | undefined;
}

export async function workerCommand(
  { concurrency, batchSize, once = false }: Options,
  { environment, signal }: Terminal,
): Promise<number> {
  const config = parseConfig({
    ...environment,
    ...(concurrency !== undefined && { WORKER_CONCURRENCY: concurrency }),
    ...(batchSize !== undefined && { BATCH_SIZE: batchSize }),
  });
  await using context = await createContext(config);
  const worker = createWorker(context);
  signal.addEventListener('abort', () => worker.stop(), { once: true });
  if (signal.aborted) worker.stop();
  const { failed } = await worker.run({ once });
  return once && failed > 0 ? 1 : 0;
}
