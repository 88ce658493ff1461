#!/usr/bin/env node
import { runCli } from './cli/run-cli.ts';
import { readEnvironment } from './config/env.ts';
import { createStopSignal, endWith } from './program.ts';

// `vitrine dead export | head` closes the pipe before everything is written.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
  process.exit(0);
});

const signal = createStopSignal();
const code = await runCli(process.argv.slice(2), {
  get environment() {
    return readEnvironment();
  },
  stdout: process.stdout,
  stderr: process.stderr,
  signal,
});
// A command that was interrupted must not keep the process with what it still waits for.
if (signal.aborted) process.exit(code);
endWith(code);
