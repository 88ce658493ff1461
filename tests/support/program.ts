import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';

export const root = join(import.meta.dirname, '..', '..');

/** A program of this repository as a process of its own. Disposing kills it. */
export interface Program extends AsyncDisposable {
  readonly child: ChildProcess;
  /** Everything it wrote so far, stdout and stderr. */
  readonly output: string;
  /** Resolves with the exit code; null after a signal. */
  readonly ended: Promise<number | null>;
  /** Sends SIGTERM and waits for the end. */
  stop(): Promise<number | null>;
}

export interface ProgramOptions {
  /** Options of Node itself. */
  readonly nodeArgs?: readonly string[];
  /** Where it runs; by default where this process does. */
  readonly folder?: string;
}

/**
 * @param entry path from the repository's root, `src/main.ts`
 * @param environment nothing else of this process's environment is passed on but PATH and HOME; no model is downloaded
 *   unless it says so
 */
export function startProgram(
  entry: string,
  environment: Readonly<Record<string, string>>,
  args: readonly string[] = [],
  { nodeArgs = [], folder }: ProgramOptions = {},
): Program {
  const { PATH = '', HOME = '' } = process.env;
  const child = spawn(process.execPath, [...nodeArgs, join(root, entry), ...args], {
    env: { PATH, HOME, MODELS_OFFLINE: 'true', ...environment },
    stdio: ['ignore', 'pipe', 'pipe'],
    ...(folder === undefined ? {} : { cwd: folder }),
  });
  const endWithUs = () => child.kill('SIGKILL');
  process.once('exit', endWithUs);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  const ended = once(child, 'close').then(([code]) => {
    process.off('exit', endWithUs);
    return code as number | null;
  });
  return {
    child,
    get output() {
      return output;
    },
    ended,
    stop() {
      child.kill('SIGTERM');
      return ended;
    },
    async [Symbol.asyncDispose]() {
      child.kill('SIGKILL');
      await ended;
    },
  };
}
