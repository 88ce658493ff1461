import { parseArgs } from 'node:util';
import { parseConfig } from '../src/config/config.ts';
import { readEnvironment } from '../src/config/env.ts';
import { createContext } from '../src/context.ts';
import { runProgram } from '../src/program.ts';
import { createWorker } from './worker.ts';

const USAGE = `Usage: npm run worker -- [--concurrency N] [--batch-size N] [--once]

Claims product images from the queue, embeds them and writes them to the vector store, until SIGTERM.

  --concurrency N   images fetched, and as many decoded, at once (WORKER_CONCURRENCY)
  --batch-size N    images an inference call (BATCH_SIZE)
  --once            end when the queue is empty; exit code 1 when a job failed
`;

await runProgram(async () => {
  const { values } = parseArgs({
    options: {
      concurrency: { type: 'string' },
      'batch-size': { type: 'string' },
      once: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(USAGE);
    return 0;
  }
  const config = parseConfig({
    ...readEnvironment(),
    ...(values.concurrency !== undefined && { WORKER_CONCURRENCY: values.concurrency }),
    ...(values['batch-size'] !== undefined && { BATCH_SIZE: values['batch-size'] }),
  });
  await using context = await createContext(config);
  const worker = createWorker(context);
  // A second signal ends the process at once, as without a handler.
  for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => worker.stop());
  const { failed } = await worker.run({ once: values.once });
  return values.once && failed > 0 ? 1 : 0;
});
