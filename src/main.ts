import { parseConfig } from './config/config.ts';
import { readEnvironment } from './config/env.ts';
import { runProgram } from './program.ts';
import { serve } from './serve.ts';

// The API process; without Redis it runs a worker too.
await runProgram(async (signal) => {
  await serve({ config: parseConfig(readEnvironment()), signal });
  return 0;
});
