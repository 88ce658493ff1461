import { parseArgs } from 'node:util';
import { parseConfig } from '../src/config/config.ts';
import { readEnvironment } from '../src/config/env.ts';
import { createContext } from '../src/context.ts';
import { runProgram } from '../src/program.ts';
import { createWorker } from './worker.ts';

const USAGE = `Usage: npm run worker -- [--concurrency N] [--batch-size N] [--once]

Claims product images from the queue, embeds them and writes them to the vector store, until SIGTERM.

  --concurrency N   images fetched, and as many decoded, at once (WORKER_CONCURRENCY)
  --batch-size N    images per inference call (BATCH_SIZE)
  --once            end when no job can be claimed now or within a minute; exit code 1 when a job failed
`;

await runProgram(async (signal) => {
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
  signal.addEventListener('abort', () => worker.stop(), { once: true });
  if (signal.aborted) worker.stop();
  const { failed } = await worker.run({ once: values.once });
  return values.once && failed > 0 ? 1 : 0;
});
