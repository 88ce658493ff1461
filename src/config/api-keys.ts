import { hash, randomBytes } from 'node:crypto';
import { SCOPES, type Scope } from './scopes.ts';

/** A key as it is configured: never the key itself. */
export interface ApiKey {
  readonly name: string;
  readonly scopes: readonly Scope[];
  /** In base64url. */
  readonly hash: string;
}

/**
 * SHA-256, in base64url. A slow hash with a salt protects what people choose; a key is 256 random bits, which nobody
 * can try out, and this one costs a microsecond per request.
 */
export const hashApiKey = (key: string): string => hash('sha256', key, 'base64url');

const KEY_BYTES = 32;

/** A new key, and how it is configured. */
export function createApiKey(
  name: string,
  scopes: readonly Scope[],
): { readonly key: string; readonly entry: ApiKey } {
  const key = `vitrine_${randomBytes(KEY_BYTES).toString('base64url')}`;
  return { key, entry: { name, scopes, hash: hashApiKey(key) } };
}

const NAME = /^[\w.-]{1,64}$/;
const HASH = /^[\w-]{43}$/;

export const isKeyName = (text: string): boolean => NAME.test(text);

/** `NAME:SCOPE+SCOPE:HASH`: no character of it means anything in `.env` files, YAML or shells. */
export function toKeyEntry({ name, scopes, hash }: ApiKey): string {
  return `${name}:${scopes.join('+')}:${hash}`;
}

/**
 * The keys of a text: entries separated by commas or line breaks; from `#` to the end of a line is a comment.
 * @throws Error whose message counts entries and quotes none of them
 */
export function parseApiKeys(text: string): readonly ApiKey[] {
  const entries = text
    .replaceAll(/#.*$/gm, '')
    .split(/[,\s]+/)
    .filter((entry) => entry !== '');
  const keys = entries.map(parseEntry);
  const names = new Set(keys.map(({ name }) => name));
  if (names.size < keys.length) throw new Error('must not have two keys of the same name');
  return keys;
}

function parseEntry(entry: string, index: number): ApiKey {
  const [name = '', scopes = '', hash = '', ...rest] = entry.split(':');
  const list = scopes.split('+').filter(isScope);
  const isWhole = list.length > 0 && list.length === scopes.split('+').length && rest.length === 0;
  if (!isWhole || !NAME.test(name) || !HASH.test(hash)) {
    throw new Error(`must be entries as \`vitrine keys create\` prints them; entry ${index + 1} is not`);
  }
  return { name, scopes: list, hash };
}

const isScope = (text: string): text is Scope => SCOPES.some((scope) => scope === text);
