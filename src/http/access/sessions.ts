import { createHmac, timingSafeEqual } from 'node:crypto';
import type { ApiKey } from '../../config/api-keys.ts';
import type { Keyring } from './keyring.ts';

/**
 * Sessions that no server keeps: a token names its key and its end, signed with what only servers know of the key. It
 * holds on every API process with the same keys, and ends when its key is removed or replaced.
 */
export interface Sessions {
  create(key: ApiKey): { readonly token: string; readonly expiresAt: number };
  /** The key and end of a valid token; null for any other. Times are epoch milliseconds. */
  verify(token: string): { readonly key: ApiKey; readonly expiresAt: number } | null;
}

export function createSessions(
  keyring: Keyring,
  { ttlMs, secret = '' }: { readonly ttlMs: number; readonly secret: string | undefined },
  now: () => number,
): Sessions {
  const sign = ({ hash }: ApiKey, text: string): Buffer =>
    createHmac('sha256', `${hash} ${secret}`).update(`vitrine session ${text}`).digest();
  return {
    create(key) {
      const expiresAt = now() + ttlMs;
      const text = `${key.name}:${expiresAt}`;
      return { token: `${text}:${sign(key, text).toString('base64url')}`, expiresAt };
    },
    verify(token) {
      const [name = '', end = '', signature = '', ...rest] = token.split(':');
      const key = keyring.findByName(name);
      if (key === null || rest.length > 0) return null;
      const given = Buffer.from(signature, 'base64url');
      const own = sign(key, `${name}:${end}`);
      if (given.length !== own.length || !timingSafeEqual(given, own)) return null;
      const expiresAt = Number(end);
      return expiresAt > now() ? { key, expiresAt } : null;
    },
  };
}
