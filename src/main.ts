import { runProgram } from './program.ts';

// The API process; without Redis it runs a worker too. The code is loaded when signals are already handled.
await runProgram(async (signal) => {
  const [{ parseConfig }, { readEnvironment }, { serve }] = await Promise.all([
    import('./config/config.ts'),
    import('./config/env.ts'),
    import('./serve.ts'),
  ]);
  await serve({ config: parseConfig(readEnvironment()), signal });
  return 0;
});
