/** What a key may do. `admin` may do everything. */
export const SCOPES = ['enqueue', 'search', 'read', 'admin'] as const;
export type Scope = (typeof SCOPES)[number];
