import { parseArgs } from 'node:util';
import { readEnvironment } from '../src/config/env.ts';
import { runProgram } from '../src/program.ts';
import { runWorker } from '../src/run-worker.ts';

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
  const { concurrency, 'batch-size': batchSize, once } = values;
  return runWorker({ concurrency, batchSize, once }, readEnvironment(), signal);
});
