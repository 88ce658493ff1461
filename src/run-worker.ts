import { setPriority } from 'node:os';
import { createWorker } from '../workers/worker.ts';
import { parseConfig } from './config/config.ts';
import type { Environment } from './config/env.ts';
import { createContext } from './context.ts';

/** What the command line may set; it wins over the environment. */
export interface WorkerOptions {
  readonly concurrency?: string | undefined;
  readonly batchSize?: string | undefined;
  /** End when no job can be claimed now or within a minute. */
  readonly once?: boolean | undefined;
}

/** Searches on the same machine, and its user, come first: Linux gives a busy worker a third of a search's share. */
const NICENESS = 5;

/**
 * Runs a worker as the whole of a process, until the signal is aborted; then it drains.
 * @returns the exit code: 1 when it ran once and a job failed
 * @throws VitrineError when a setting is wrong, or the worker can't start
 */
export async function runWorker(
  { concurrency, batchSize, once = false }: WorkerOptions,
  environment: Environment,
  signal: AbortSignal,
): Promise<number> {
  const config = parseConfig({
    ...environment,
    ...(concurrency !== undefined && { WORKER_CONCURRENCY: concurrency }),
    ...(batchSize !== undefined && { BATCH_SIZE: batchSize }),
  });
  // Threads and processes that are started later inherit it.
  setPriority(NICENESS);
  await using context = await createContext(config);
  const worker = createWorker(context);
  signal.addEventListener('abort', () => worker.stop(), { once: true });
  if (signal.aborted) worker.stop();
  const { failed } = await worker.run({ once });
  return once && failed > 0 ? 1 : 0;
}
