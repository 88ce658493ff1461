import { VitrineError } from './errors/vitrine-error.ts';
import { redact } from './observability/logger.ts';

/**
 * Runs a program's main function, which gives the exit code. A failure with a code is told in its own sentence,
 * a wrong option in Node's; both end with exit code 1, or 2 for the options.
 */
export async function runProgram(main: () => Promise<number>): Promise<void> {
  try {
    process.exitCode = await main();
  } catch (error) {
    process.exitCode = isUsageError(error) ? 2 : 1;
    process.stderr.write(`${toSentences(error)}\n`);
  }
}

/** What a person in a terminal is told of a failure: no stack, no secret. */
export function toSentences(error: unknown): string {
  if (error instanceof VitrineError) return `${error.message}\n${error.suggestion} (${error.code})`;
  return redact(error instanceof Error ? error.message : String(error));
}

function isUsageError(error: unknown): boolean {
  return error instanceof Error && 'code' in error && String(error.code).startsWith('ERR_PARSE_ARGS');
}
