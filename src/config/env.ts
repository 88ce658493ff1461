import { existsSync, readFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { parseEnv } from 'node:util';
import { toConfigurationError } from './configuration-error.ts';

export type Environment = Readonly<Record<string, string | undefined>>;

/** Secrets that a file may hold instead, named by the setting with `_FILE` after it. */
export const FILE_SECRETS: readonly string[] = [
  'REDIS_PASSWORD',
  'QDRANT_API_KEY',
  'SESSION_SECRET',
  'IMAGE_SOURCE_HEADERS',
  'WEBHOOK_SECRETS',
];

/**
 * The process's environment over the `.env` file of the folder: what is set for the process wins. Secrets that are
 * kept in files (REDIS_PASSWORD_FILE) are read. The only reader of process.env.
 * @throws VitrineError `invalid_configuration` when such a file can't be read, or the secret is also set directly
 */
export function readEnvironment(folder: string = process.cwd()): Environment {
  const file = resolve(folder, '.env');
  const fromFile = existsSync(file) ? parseEnv(readFileSync(file, 'utf8')) : {};
  const environment: Record<string, string | undefined> = { ...fromFile, ...process.env };
  for (const name of FILE_SECRETS) readSecret(environment, name);
  return environment;
}

function readSecret(environment: Record<string, string | undefined>, name: string): void {
  const setting = `${name}_FILE`;
  const path = environment[setting];
  if (!path) return;
  if (environment[name])
    throw toConfigurationError([{ path: setting, message: `can't be set together with ${name}` }]);
  try {
    environment[name] = readFileSync(path, 'utf8').replace(/\r?\n$/, '');
  } catch {
    throw toConfigurationError([{ path: setting, message: "names a file that can't be read" }]);
  }
  delete environment[setting];
}
