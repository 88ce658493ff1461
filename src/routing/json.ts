import { VitrineError } from '../errors/vitrine-error.ts';

/** Deep enough for any metadata, and far from what could exhaust the stack of code that walks a value. */
const MAX_DEPTH = 32;

/**
 * The value of a JSON text from outside.
 * @throws VitrineError `invalid_json` when it isn't JSON, is nested deeper than 32 levels, or has a key
 * `__proto__`, which copying code may take for an object's prototype.
 */
export function parseJson(text: string): unknown {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // The engine's message quotes the text, which may be an image or a secret.
    throw new VitrineError('invalid_json', 'The text is not valid JSON.');
  }
  checkShape(value, 1);
  return value;
}

function checkShape(value: unknown, depth: number): void {
  if (typeof value !== 'object' || value === null) return;
  if (depth > MAX_DEPTH) {
    throw new VitrineError('invalid_json', `The JSON is nested deeper than ${MAX_DEPTH} levels.`);
  }
  if (Object.hasOwn(value, '__proto__')) {
    throw new VitrineError('invalid_json', 'The key __proto__ is not allowed.');
  }
  for (const part of Object.values(value)) checkShape(part, depth + 1);
}

const utf8 = new TextDecoder('utf-8', { fatal: true });

/** @throws VitrineError `invalid_json` when the bytes are not UTF-8. */
export function decodeUtf8(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw new VitrineError('invalid_json', 'The text is not valid UTF-8.');
  }
}
