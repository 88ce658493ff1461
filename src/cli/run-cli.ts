import { once } from 'node:events';
import { toSentences } from '../program.ts';
import { type Command, paint, print, type Terminal, UsageError } from './command.ts';
import { toNearest } from './nearest.ts';

/** What shells give for a program that Ctrl+C has ended: 128 + SIGINT. */
const INTERRUPTED = 130;

/**
 * Runs the command that the arguments name, and gives the exit code: 0 when it went well, 1 when it failed,
 * 2 when it was called wrongly. A failure is told in plain sentences on stderr.
 */
export async function runCli(
  commands: readonly Command[],
  args: readonly string[],
  terminal: Terminal,
): Promise<number> {
  const [name, ...rest] = args;
  if (name === undefined || name === '--help' || name === '-h' || name === 'help') {
    const about = commands.find((command) => command.name === rest[0]);
    print(terminal, about?.help ?? toOverview(commands));
    return 0;
  }
  const command = commands.find((known) => known.name === name);
  if (command === undefined) {
    const near = toNearest(
      name,
      commands.map((known) => known.name),
    );
    const hint = near === null ? '' : ` Did you mean \`vitrine ${near}\`?`;
    const kind = name.startsWith('-') ? 'option' : 'command';
    return usageFailure(terminal, `There is no ${kind} "${name}".${hint}`, 'vitrine --help');
  }
  if (isHelp(rest)) {
    print(terminal, command.help);
    return 0;
  }
  try {
    const running = command.run(rest, terminal);
    return await (command.drains ? running : Promise.race([running, untilInterrupted(terminal.signal)]));
  } catch (error) {
    if (error instanceof UsageError) return usageFailure(terminal, error.message, `vitrine ${name} --help`);
    if (terminal.signal.aborted) return INTERRUPTED;
    const [first = '', ...others] = toSentences(error).split('\n');
    terminal.stderr.write(`${[paint(terminal.stderr, 'red', first), ...others].join('\n')}\n`);
    return 1;
  }
}

async function untilInterrupted(signal: AbortSignal): Promise<number> {
  if (!signal.aborted) await once(signal, 'abort');
  return INTERRUPTED;
}

/** After `--` everything is an argument. */
function isHelp(args: readonly string[]): boolean {
  const end = args.indexOf('--');
  const options = end === -1 ? args : args.slice(0, end);
  return options.includes('--help') || options.includes('-h');
}

function usageFailure(terminal: Terminal, sentence: string, help: string): number {
  terminal.stderr.write(`${paint(terminal.stderr, 'red', sentence)}\n\`${help}\` shows how it is called.\n`);
  return 2;
}

function toOverview(commands: readonly Command[]): string {
  const width = Math.max(...commands.map(({ name }) => name.length));
  const lines = commands.map(({ name, summary }) => `  ${name.padEnd(width)}  ${summary}`);
  return `Usage: vitrine COMMAND [ARGUMENT ...] [OPTION ...]

Makes a product catalog searchable by its images.

Commands:
${lines.join('\n')}

\`vitrine COMMAND --help\` shows the options and examples of one. Settings come from the environment and .env.`;
}
