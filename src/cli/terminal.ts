import { stripVTControlCharacters, styleText } from 'node:util';
import type { Environment } from '../config/env.ts';

export type OutputStream = NodeJS.WritableStream & { readonly isTTY?: boolean };

/** What a command reads and writes. */
export interface Terminal {
  readonly environment: Environment;
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;
  /** Aborted when the person presses Ctrl+C or the process is asked to end. */
  readonly signal: AbortSignal;
}

export function print(terminal: Terminal, text: string): void {
  terminal.stdout.write(`${text}\n`);
}

export function printJson(terminal: Terminal, value: unknown): void {
  print(terminal, JSON.stringify(value, null, 2));
}

type Format = Parameters<typeof styleText>[0];

/** Coloured only where the stream is a terminal that wants colours (it respects NO_COLOR and FORCE_COLOR). */
export function paint(stream: OutputStream, format: Format, text: string): string {
  return styleText(format, text, { stream });
}

/** Text from elsewhere (a catalog, a server) without the characters that control a terminal. */
export function plain(text: string): string {
  return stripVTControlCharacters(text).replaceAll(/\p{Cc}/gu, ' ');
}
