import { PassThrough } from 'node:stream';
import type { Terminal } from '../../src/cli/terminal.ts';

/** A terminal that remembers what was written to it. */
export function createTestTerminal(environment: Readonly<Record<string, string>> = {}): Terminal & {
  readonly out: () => string;
  readonly err: () => string;
} {
  const stdout = new PassThrough();
  const stderr = new PassThrough();
  return {
    environment,
    stdout,
    stderr,
    signal: new AbortController().signal,
    out: () => String(stdout.read() ?? ''),
    err: () => String(stderr.read() ?? ''),
  };
}
