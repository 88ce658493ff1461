import { VitrineError } from '../errors/vitrine-error.ts';

/** What a page ends with, in a form that says nothing to clients and passes through URLs. */
export function toCursor(store: string, last: string): string {
  return Buffer.from(JSON.stringify([store, last])).toString('base64url');
}

/** @throws VitrineError `invalid_request` for anything but a cursor of this store */
export function parseCursor(store: string, cursor: string): string {
  try {
    const parsed: unknown = JSON.parse(Buffer.from(cursor, 'base64url').toString());
    if (Array.isArray(parsed) && parsed[0] === store && typeof parsed[1] === 'string') return parsed[1];
  } catch {
    // Not JSON: the same as any other text.
  }
  throw new VitrineError('invalid_request', 'The cursor is none that a page of this list ended with.', {
    suggestion: 'Leave the cursor out to begin with the first page.',
  });
}
