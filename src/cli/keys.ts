import { createApiKey, isKeyName, toKeyEntry } from '../config/api-keys.ts';
import type { Scope } from '../config/scopes.ts';
import { VitrineError } from '../errors/vitrine-error.ts';
import { paint, print, type Terminal } from './terminal.ts';

/** @throws VitrineError `invalid_request` for a name that an entry can't hold, or one that is taken */
export async function createKeyCommand(
  name: string,
  scopes: readonly Scope[],
  terminal: Terminal,
): Promise<number> {
  if (!isKeyName(name)) {
    throw new VitrineError('invalid_request', 'The name can not be used.', {
      suggestion: 'Use 1 to 64 letters, digits, dots, dashes and underscores.',
    });
  }
  const given = terminal.environment['API_KEYS'] ?? '';
  if (given.split(',').some((entry) => entry.trim().startsWith(`${name}:`))) {
    throw new VitrineError('invalid_request', `API_KEYS has a key ${name} already.`, {
      suggestion: 'Choose another name, or remove that key from API_KEYS first.',
    });
  }
  const { key, entry } = createApiKey(name, [...new Set(scopes)]);
  const text = toKeyEntry(entry);
  print(
    terminal,
    `The key ${name}, which is shown only now:

  ${paint(terminal.stdout, 'bold', key)}

Configure it for the server with this line in .env, and start the server again:

  API_KEYS=${given === '' ? text : `${given},${text}`}

Or add this line to the file that API_KEYS_FILE names, which is read again at once:

  ${text}`,
  );
  return 0;
}
