#!/usr/bin/env node
import { COMMANDS } from './cli/commands.ts';
import { runCli } from './cli/run-cli.ts';
import { readEnvironment } from './config/env.ts';

const stop = new AbortController();
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  // The second one ends the process at once, as without a handler.
  process.once(signal, () => stop.abort());
}
// `vitrine dead export | head` closes the pipe before everything is written.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(0);
});

const code = await runCli(COMMANDS, process.argv.slice(2), {
  environment: readEnvironment(),
  stdout: process.stdout,
  stderr: process.stderr,
  signal: stop.signal,
});
// What a command that was left in the middle still waits for must not keep the process.
if (stop.signal.aborted) process.exit(code);
process.exitCode = code;
