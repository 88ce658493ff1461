import { computed, signal } from '@preact/signals';
import { ask, needsKey } from './api.ts';

export type Scope = 'enqueue' | 'search' | 'read' | 'admin';

interface Session {
  /** Of the API key; null where none is needed. */
  readonly name: string | null;
  readonly scopes: readonly Scope[];
}

export const session = signal<Session | null>(null);

const scopes = computed(() => session.value?.scopes ?? []);

export const can = (scope: Scope): boolean => scopes.value.includes(scope) || scopes.value.includes('admin');

/** Who this browser is to the server. @throws ApiError when a key is needed, or the server does not answer */
export async function loadSession(): Promise<void> {
  session.value = await ask<Session>('/session');
}

/** Exchanges the key for a cookie; the key itself is not kept. @throws ApiError */
export async function signIn(key: string): Promise<void> {
  session.value = await ask<Session>('/session', {
    method: 'POST',
    headers: { Authorization: `Bearer ${key}` },
  });
  needsKey.value = false;
}

export async function signOut(): Promise<void> {
  await ask('/session', { method: 'DELETE' });
  session.value = null;
  needsKey.value = true;
}
