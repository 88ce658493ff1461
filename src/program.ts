import { VitrineError } from './errors/vitrine-error.ts';
import { redact } from './observability/logger.ts';

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
    process.exitCode = await main(createStopSignal());
  } catch (error) {
    process.exitCode = isUsageError(error) ? 2 : 1;
    process.stderr.write(`${toSentences(error)}\n`);
  }
}

/** What a person in a terminal reads about a failure: no stack, no secret. */
export function toSentences(error: unknown): string {
  if (error instanceof VitrineError) return `${error.message}\n${error.suggestion} (${error.code})`;
  return redact(error instanceof Error ? error.message : String(error));
}

function isUsageError(error: unknown): boolean {
  return error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS');
}
