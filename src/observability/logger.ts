import { mkdirSync } from 'node:fs';
import { dirname } from 'node:path';
import { type Logger, multistream, pino } from 'pino';
import { VitrineError } from '../errors/vitrine-error.ts';
import { redact, toSafeLine } from './redact.ts';

export type { Logger };

export interface LoggerSettings {
  readonly level: string;
  /** Also written here, as well as to stdout. */
  readonly file: string | undefined;
}

/** Lines that wait for a slow reader of stdout; beyond it they are dropped. */
const MAX_WAITING_BYTES = 10_000_000;

/**
 * JSON lines on stdout, and in a file where one is named. A VitrineError is logged with its code and its cause's
 * message; stacks are kept for what nobody foresaw. No line holds secrets, or has more than 8 KB.
 */
export function createLogger(settings: LoggerSettings): Logger {
  const options = {
    level: settings.level,
    base: { pid: process.pid },
    timestamp: pino.stdTimeFunctions.isoTime,
    formatters: { level: (label: string) => ({ level: label }) },
    serializers: { error: toLogError },
    hooks: { streamWrite: toSafeLine },
  };
  // Written in the background, at the exit at once: a reader that is slow holds nothing up.
  const destination = pino.destination({ dest: 1, sync: false, maxLength: MAX_WAITING_BYTES });
  const stdout = { level: settings.level, stream: destination };
  if (settings.file === undefined) return pino(options, stdout.stream);
  mkdirSync(dirname(settings.file), { recursive: true });
  const file = { level: settings.level, stream: pino.destination(settings.file) };
  return pino(options, multistream([stdout, file] as never));
}

function toLogError(error: unknown): object {
  if (error instanceof VitrineError) {
    const cause = error.cause instanceof Error ? redact(error.cause.message) : undefined;
    return { code: error.code, message: redact(error.message), cause };
  }
  if (error instanceof Error) {
    return { name: error.name, message: redact(error.message), stack: redact(error.stack ?? '') };
  }
  return { message: redact(String(error)) };
}
