import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { parseConfig } from '../../src/config/config.ts';
import {
  type Context,
  type ContextOptions,
  type ContextOverrides,
  createContext,
} from '../../src/context.ts';

/** A folder of its own under the system's temporary one, removed when disposed. */
export async function createTempFolder(): Promise<AsyncDisposable & { readonly path: string }> {
  const path = await mkdtemp(join(tmpdir(), 'vitrine-test-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}

/** An embedded context with the built-in model in a folder of its own; quiet, closed with its folder. */
export async function createTestContext(
  environment: Readonly<Record<string, string>> = {},
  overrides: ContextOverrides = {},
  options: ContextOptions = {},
): Promise<Context> {
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await createTempFolder());
  const config = parseConfig({ DATA_DIR: folder.path, MODEL: 'builtin', ...environment });
  const logger = pino({ level: 'silent' });
  const context = stack.use(await createContext(config, { logger, ...overrides }, options));
  const parts = stack.move();
  return Object.defineProperty(context, Symbol.asyncDispose, { value: () => parts.disposeAsync() });
}
