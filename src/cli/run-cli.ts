import { once } from 'node:events';
import { CommanderError } from '@commander-js/extra-typings';
import { VitrineError } from '../errors/vitrine-error.ts';
import { toSentences } from '../program.ts';
import { createCommands, DRAINING_COMMANDS } from './commands.ts';
import { paint, type Terminal } from './terminal.ts';

/** What shells report for a program that Ctrl+C has ended: 128 + SIGINT. */
const INTERRUPTED = 130;

/**
 * Runs the command that the arguments name, and returns the exit code: 0 when it went well, 1 when it failed, 2 when it
 * was called wrongly. A failure is printed in plain sentences on stderr.
 */
export async function runCli(args: readonly string[], terminal: Terminal): Promise<number> {
  let code = 0;
  const commands = createCommands(terminal, (ended) => {
    code = ended;
  });
  try {
    const running = commands
      .parseAsync(args.length === 0 ? ['--help'] : args, { from: 'user' })
      .then(() => code);
    const drains = DRAINING_COMMANDS.includes(args[0] ?? '');
    return await (drains ? running : Promise.race([running, untilInterrupted(terminal)]));
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2;
    if (terminal.signal.aborted) return INTERRUPTED;
    const [first = '', ...others] = toSentences(toMeant(error)).split('\n');
    terminal.stderr.write(`${[paint(terminal.stderr, 'red', first), ...others].join('\n')}\n`);
    return 1;
  }
}

/** A server of another version may leave out of its answer what a command reads. */
function toMeant(error: unknown): unknown {
  if (!(error instanceof TypeError)) return error;
  return new VitrineError('internal_error', 'The answer of the server has another shape.', {
    cause: error,
    suggestion: 'Use the command of the same version as the server.',
  });
}

async function untilInterrupted({ signal }: Terminal): Promise<number> {
  if (!signal.aborted) await once(signal, 'abort');
  return INTERRUPTED;
}
