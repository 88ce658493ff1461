import { VitrineError } from './errors/vitrine-error.ts';
import { redact } from './observability/redact.ts';

/** The same signal again within this time is the same request to stop. */
const REPEAT_MS = 1_000;

/**
 * Aborted by the first SIGTERM or SIGINT; another one ends the process at once. One request may arrive several times:
 * a supervisor such as systemd signals every process of the service, and npm and scripts/run.mjs also pass on what
 * they get.
 */
export function createStopSignal(): AbortSignal {
  const stop = new AbortController();
  let first: { readonly signal: NodeJS.Signals; readonly at: number } | undefined;
  const onSignal = (signal: NodeJS.Signals) => {
    if (first === undefined) {
      first = { signal, at: performance.now() };
      stop.abort();
    } else if (signal !== first.signal || performance.now() - first.at > REPEAT_MS) {
      process.removeAllListeners(signal);
      process.kill(process.pid, signal);
    }
  };
  process.on('SIGTERM', onSignal);
  process.on('SIGINT', onSignal);
  return stop.signal;
}

/**
 * Runs a program's main function, which returns the exit code and stops when its signal is aborted. Prints a failure
 * in plain sentences; it ends the process with exit code 1, or 2 for a wrong option.
 */
export async function runProgram(main: (signal: AbortSignal) => Promise<number>): Promise<void> {
  try {
    endWith(await main(createStopSignal()));
  } catch (error) {
    process.stderr.write(`${toSentences(error)}\n`);
    endWith(isUsageError(error) ? 2 : 1);
  }
}

/** How long the process may take to end by itself. */
const END_WITHIN_MS = 2_000;

/**
 * Sets the exit code, and ends the process soon even when something in it never returns, such as a read from a dead
 * mount. Node's own exit would wait for the thread that hangs; another program in this process's place does not.
 */
export function endWith(exitCode: number): void {
  process.exitCode = exitCode;
  const end = () => {
    const command = [process.execPath, '-e', `process.exit(${exitCode})`];
    if (process.execve === undefined || process.platform === 'win32') process.exit();
    process.execve(process.execPath, command, {});
  };
  setTimeout(end, END_WITHIN_MS).unref();
}

/** What a person in a terminal reads about a failure: no stack, no secret. */
export function toSentences(error: unknown): string {
  if (error instanceof VitrineError) return `${error.message}\n${error.suggestion} (${error.code})`;
  return redact(error instanceof Error ? error.message : String(error));
}

function isUsageError(error: unknown): boolean {
  return error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS');
}
