import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createTempFolder } from '../../tests/support/context.ts';
import { root } from '../../tests/support/program.ts';
import { freePort } from '../../tests/support/redis-server.ts';
import { until } from '../../tests/support/until.ts';

/** A server of its own process, whose log goes to a file. */
export interface MeasuredServer extends AsyncDisposable {
  readonly url: string;
  readonly process: ChildProcess;
}

export async function startServer(
  entry: string,
  environment: Readonly<Record<string, string>>,
  nodeArgs: readonly string[] = [],
): Promise<MeasuredServer> {
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await createTempFolder());
  const port = await freePort();
  const url = `http://127.0.0.1:${port}`;
  const log = openSync(join(folder.path, 'log'), 'w');
  // As `npm start` starts it: with the options of this process, and its settings of the allocator.
  const { PATH = '', HOME = '', NODE_OPTIONS = '', MALLOC_ARENA_MAX, MALLOC_MMAP_THRESHOLD_ } = process.env;
  const started = { PATH, HOME, NODE_OPTIONS, MALLOC_ARENA_MAX, MALLOC_MMAP_THRESHOLD_ };
  const child = spawn(process.execPath, [...process.execArgv, ...nodeArgs, join(root, entry)], {
    stdio: ['ignore', log, log],
    env: { ...started, MODELS_OFFLINE: 'true', DATA_DIR: folder.path, PORT: `${port}`, ...environment },
  });
  closeSync(log);
  const ended = once(child, 'close');
  stack.defer(async () => {
    child.kill('SIGTERM');
    await ended;
  });
  await until(`the server ${entry}`, async () => {
    if (child.exitCode !== null) throw new Error(readFileSync(join(folder.path, 'log'), 'utf8'));
    return fetch(`${url}/livez`).then(
      () => true as const,
      () => undefined,
    );
  });
  const parts = stack.move();
  return { url, process: child, [Symbol.asyncDispose]: () => parts.disposeAsync() };
}

/** Processor time of a process so far, all its threads. In ticks of 10 ms, and on Linux alone. */
export function readCpuMs({ pid }: ChildProcess): number {
  const [, fields = ''] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ');
  const [user = 0, system = 0] = fields.split(' ').slice(11, 13).map(Number);
  return (user + system) * 10;
}

export function readRssBytes({ pid }: ChildProcess): number {
  return Number(/^VmRSS:\s+(\d+)/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) * 1024;
}
