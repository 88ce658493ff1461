import { parseConfig } from '../../src/config/config.ts';
import { createContext } from '../../src/context.ts';

// Stops an embedder at many moments of its start.
for (let ms = 0; ms < 400; ms += 20) {
  const context = await createContext(parseConfig({ LOG_LEVEL: 'silent' }));
  context.embedder.start().catch(() => undefined);
  await new Promise((resolve) => setTimeout(resolve, ms));
  await context[Symbol.asyncDispose]();
}
console.log('stopped each time');
