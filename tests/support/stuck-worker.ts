// A worker whose images are read from a FIFO that nobody writes to: the threads in which it reads never return, as those
// of a dead mount. The FIFO's path is the first argument.
import { open } from 'node:fs/promises';
import { parseConfig } from '../../src/config/config.ts';
import { readEnvironment } from '../../src/config/env.ts';
import { createContext } from '../../src/context.ts';
import { runProgram } from '../../src/program.ts';
import { createWorker } from '../../workers/worker.ts';

const [fifo = ''] = process.argv.slice(2);

await runProgram(async () => {
  await using context = await createContext(parseConfig(readEnvironment()), {
    images: {
      async fetch() {
        await open(fifo);
        throw new Error('Nobody writes to it.');
      },
      async [Symbol.asyncDispose]() {},
    },
  });
  await createWorker(context).run();
  return 0;
});
