import { parseConfig } from './config/config.ts';
import { readEnvironment } from './config/env.ts';
import { createContext } from './context.ts';
import { startServer } from './http/server.ts';
import { runProgram } from './program.ts';

await runProgram(async () => {
  // Before anything slow, so that a signal while it starts is an orderly stop too. A second one ends it at once.
  const asked = new Promise<void>((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => resolve());
  });
  await using context = await createContext(parseConfig(readEnvironment()));
  const server = await startServer(context);
  await asked;
  context.logger.info('stopping');
  await server.stop();
  return 0;
});
