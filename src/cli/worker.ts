import { parseConfig } from '../config/config.ts';
import { defineCommand } from './command.ts';

export const workerCommand = defineCommand({
  name: 'worker',
  drains: true,
  summary: 'Run a worker: claim images, embed them and write them to the vector store',
  options: {
    concurrency: {
      type: 'string',
      hint: 'N',
      help: 'images fetched, and as many decoded, at once (WORKER_CONCURRENCY)',
    },
    'batch-size': { type: 'string', hint: 'N', help: 'images an inference call (BATCH_SIZE)' },
    once: { type: 'boolean', default: false, help: 'end when the queue is empty; with 1 when a job failed' },
  },
  examples: ['vitrine worker', 'vitrine worker --concurrency 16', 'vitrine worker --once'],
  async run({ concurrency, 'batch-size': batchSize, once }, _args, terminal) {
    const [{ createContext }, { createWorker }] = await Promise.all([
      import('../context.ts'),
      import('../../workers/worker.ts'),
    ]);
    const config = parseConfig({
      ...terminal.environment,
      ...(concurrency !== undefined && { WORKER_CONCURRENCY: concurrency }),
      ...(batchSize !== undefined && { BATCH_SIZE: batchSize }),
    });
    await using context = await createContext(config);
    const worker = createWorker(context);
    const stop = () => worker.stop();
    terminal.signal.addEventListener('abort', stop, { once: true });
    if (terminal.signal.aborted) stop();
    const { failed } = await worker.run({ once });
    return once && failed > 0 ? 1 : 0;
  },
});
