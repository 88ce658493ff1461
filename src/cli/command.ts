import { type ParseArgsOptionDescriptor, parseArgs, stripVTControlCharacters, styleText } from 'node:util';
import type { Environment } from '../config/env.ts';
import { toNearest } from './nearest.ts';

export type OutputStream = NodeJS.WritableStream & { readonly isTTY?: boolean };

/** What a command reads and writes. */
export interface Terminal {
  readonly environment: Environment;
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
  /** Aborted when the person presses Ctrl+C or the process is asked to end. */
  readonly signal: AbortSignal;
}

export interface Option extends ParseArgsOptionDescriptor {
  /** What stands for the value in the help: `URL`. */
  readonly hint?: string;
  readonly help: string;
}

type Options = Readonly<Record<string, Option>>;

type Values<O extends Options> = ReturnType<
  typeof parseArgs<{ options: O; strict: true; allowPositionals: true }>
>['values'];

export interface Command {
  readonly name: string;
  readonly summary: string;
  /** The whole help of the command. */
  readonly help: string;
  /** True when it ends in its own way after the terminal's signal; others are left where they are. */
  readonly drains: boolean;
  /** Gives the exit code. @throws UsageError, VitrineError */
  run(args: readonly string[], terminal: Terminal): Promise<number>;
}

export interface CommandDefinition<O extends Options> {
  readonly name: string;
  /** One line, without a full stop. */
  readonly summary: string;
  /** How the arguments are shown: `IMAGE`. */
  readonly arguments?: string;
  /** How many arguments there may be, from and to; none unless given. */
  readonly count?: readonly [number, number];
  /** Lines between the usage and the options. */
  readonly details?: string;
  readonly options: O;
  readonly examples: readonly string[];
  readonly drains?: boolean;
  run(values: Values<O>, args: readonly string[], terminal: Terminal): Promise<number>;
}

/** The command was called wrongly: exit code 2. */
export class UsageError extends Error {}

/** A command whose options and help come from one description. */
export function defineCommand<const O extends Options>(definition: CommandDefinition<O>): Command {
  const { name, summary, count = [0, 0] } = definition;
  const help = toHelp(definition);
  return {
    name,
    summary,
    help,
    drains: definition.drains ?? false,
    async run(args, terminal) {
      const { values, positionals } = parse(name, args, definition.options);
      if (positionals.length < count[0])
        throw new UsageError(`vitrine ${name} needs ${definition.arguments}.`);
      if (positionals.length > count[1])
        throw new UsageError(`vitrine ${name} does not take "${positionals[count[1]]}".`);
      return definition.run(values, positionals, terminal);
    },
  };
}

function parse<O extends Options>(name: string, args: readonly string[], options: O) {
  try {
    return parseArgs({ args: [...args], options, strict: true, allowPositionals: true, allowNegative: true });
  } catch (error) {
    if (!(error instanceof Error) || !('code' in error)) throw error;
    if (error.code !== 'ERR_PARSE_ARGS_UNKNOWN_OPTION') throw new UsageError(toSentence(error.message));
    const given = /'(-[^']*)'/.exec(error.message)?.[1] ?? '';
    const near = toNearest(given.replace(/^--?(no-)?/, ''), Object.keys(options));
    const hint = near === null ? '' : ` Did you mean --${near}?`;
    throw new UsageError(`vitrine ${name} has no option ${given}.${hint}`);
  }
}

const toSentence = (text: string): string => `${text.split(/[\n.](?:\s|$)/, 1)[0]}.`;

function toHelp(definition: CommandDefinition<Options>): string {
  const { name, summary, details, options, examples } = definition;
  const usage = [`vitrine ${name}`, definition.arguments, '[OPTION ...]'].filter(Boolean).join(' ');
  const rows = Object.entries(options).map(([option, { hint, help, short }]) => {
    const flag = short === undefined ? `--${option}` : `-${short}, --${option}`;
    return [hint === undefined ? flag : `${flag} ${hint}`, help] as const;
  });
  rows.push(['-h, --help', 'show this']);
  const width = Math.max(...rows.map(([flag]) => flag.length));
  return [
    `Usage: ${usage}`,
    `\n${summary}.`,
    ...(details === undefined ? [] : [`\n${details}`]),
    `\nOptions:\n${rows.map(([flag, help]) => `  ${flag.padEnd(width)}  ${help}`).join('\n')}`,
    `\nExamples:\n${examples.map((example) => `  ${example}`).join('\n')}`,
  ].join('\n');
}

/** The option that names a server, for every command that talks to one. */
export const SERVER_OPTION = {
  type: 'string',
  hint: 'URL',
  help: 'the Vitrine server; default: the one of HOST and PORT, or none',
} as const satisfies Option;

export const JSON_OPTION = {
  type: 'boolean',
  default: false,
  help: 'print the answer as JSON',
} as const satisfies Option;

/** @throws UsageError unless the text is a whole number in the range */
export function parseCount(option: string, text: string, min: number, max: number): number {
  const value = Number(text);
  if (Number.isInteger(value) && value >= min && value <= max) return value;
  throw new UsageError(`--${option} must be a whole number from ${min} to ${max}.`);
}

export function print(terminal: Terminal, text: string): void {
  terminal.stdout.write(`${text}\n`);
}

export function printJson(terminal: Terminal, value: unknown): void {
  print(terminal, JSON.stringify(value, null, 2));
}

type Format = Parameters<typeof styleText>[0];

/** Coloured only where the stream is a terminal that wants colours (NO_COLOR and FORCE_COLOR are heeded). */
export function paint(stream: OutputStream, format: Format, text: string): string {
  return styleText(format, text, { stream });
}

/** Text from elsewhere (a catalog, a server) without the characters that steer a terminal. */
export function plain(text: string): string {
  return stripVTControlCharacters(text).replaceAll(/\p{Cc}/gu, ' ');
}
