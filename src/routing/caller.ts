import type { ApiKey } from '../config/api-keys.ts';
import { SCOPES, type Scope } from '../config/scopes.ts';

/** Who sends a request, and what they may do. */
export interface Caller {
  /** Of their API key; null without one. */
  readonly name: string | null;
  readonly scopes: ReadonlySet<Scope>;
}

/** Everyone, where no API keys are set. */
export const ANYONE: Caller = { name: null, scopes: new Set(SCOPES) };

/** Someone who has shown no valid key. */
export const NOBODY: Caller = { name: null, scopes: new Set() };

export function toCaller({ name, scopes }: ApiKey): Caller {
  return { name, scopes: new Set(scopes.includes('admin') ? SCOPES : scopes) };
}
