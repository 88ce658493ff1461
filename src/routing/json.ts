import { VitrineError } from '../errors/vitrine-error.ts';

/** Deep enough for any metadata, and far from what could exhaust the stack of code that walks a value. */
const MAX_DEPTH = 32;

/** Values in one document, those of a redrive of 10,000 jobs included. Each takes up to 56 bytes of memory. */
const MAX_VALUES = 20_000;

/**
 * The value of a JSON text from outside. What would take long to parse, or much memory, is refused before it is parsed.
 * @throws VitrineError `invalid_json` when it isn't JSON in UTF-8, is nested deeper than 32 levels, or has a key
 * `__proto__`, which copying code may take for an object's prototype; `invalid_request` with more than 20,000 values
 */
export function parseJson(source: string | Uint8Array): unknown {
  const bytes = typeof source === 'string' ? encoder.encode(source) : source;
  return parseMeasured(bytes, measureJson(bytes, 0));
}

/** The same for a text that has been measured. @throws as `parseJson` */
export function parseMeasured(bytes: Uint8Array, { values, isTooDeep }: JsonMeasure): unknown {
  if (isTooDeep) {
    throw new VitrineError('invalid_json', `The JSON is nested deeper than ${MAX_DEPTH} levels.`);
  }
  if (values > MAX_VALUES) {
    throw new VitrineError('invalid_request', `The JSON has more than ${MAX_VALUES} values.`);
  }
  let value: unknown;
  try {
    value = JSON.parse(decodeUtf8(bytes));
  } catch (error) {
    if (error instanceof VitrineError) throw error;
    // The engine's message quotes the text, which may be an image or a secret.
    throw new VitrineError('invalid_json', 'The text is not valid JSON.');
  }
  checkKeys(value);
  return value;
}

export interface JsonMeasure {
  /** Where the value ends: at the comma or the closing bracket of what it is in, or at the end of the text. */
  readonly end: number;
  readonly values: number;
  readonly isTooDeep: boolean;
}

const QUOTE = 0x22;
const BACKSLASH = 0x5c;
const COMMA = 0x2c;
const OPENING_BRACKET = 0x5b;
const OPENING_BRACE = 0x7b;
const CLOSING_BRACKET = 0x5d;
const CLOSING_BRACE = 0x7d;

/** By byte; a table is the fastest way to skip all others. */
const HAS_MEANING = new Uint8Array(256);
for (const byte of [QUOTE, COMMA, OPENING_BRACKET, OPENING_BRACE, CLOSING_BRACKET, CLOSING_BRACE]) {
  HAS_MEANING[byte] = 1;
}

/** No text with more values is read on: nobody takes it. */
export const MAX_MEASURED_VALUES = 2_000_000;

/**
 * Measures the JSON value that begins at `from`. Only brackets, commas and texts are read; the parser checks the rest.
 * Of a value that is too deep or too large to be parsed, the end is not looked for.
 */
export function measureJson(bytes: Uint8Array, from: number): JsonMeasure {
  let depth = 0;
  let values = 1;
  let at = from;
  for (; at < bytes.length && depth <= MAX_DEPTH && values <= MAX_MEASURED_VALUES; at++) {
    const byte = bytes[at] ?? 0;
    if (HAS_MEANING[byte] === 0) continue;
    if (byte === QUOTE) at = findEndOfText(bytes, at);
    else if (byte === OPENING_BRACKET || byte === OPENING_BRACE) {
      depth++;
      values++;
    } else {
      // A comma or a closing bracket of what the value is in.
      if (depth === 0) break;
      if (byte === COMMA) values++;
      else depth--;
    }
  }
  return { end: Math.min(at, bytes.length), values, isTooDeep: depth > MAX_DEPTH };
}

/** The index of the quote that ends the text whose first quote is at `from`. */
function findEndOfText(bytes: Uint8Array, from: number): number {
  for (let at = from + 1; at < bytes.length; at++) {
    const byte = bytes[at];
    if (byte === QUOTE) return at;
    if (byte === BACKSLASH) at++;
  }
  return bytes.length;
}

/** Of a value whose depth is known to be small. */
function checkKeys(value: unknown): void {
  if (typeof value !== 'object' || value === null) return;
  if (Object.hasOwn(value, '__proto__')) {
    throw new VitrineError('invalid_json', 'The key __proto__ is not allowed.');
  }
  for (const part of Object.values(value)) checkKeys(part);
}

const encoder = new TextEncoder();
const utf8 = new TextDecoder('utf-8', { fatal: true });

/** @throws VitrineError `invalid_json` when the bytes are not UTF-8. */
function decodeUtf8(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw new VitrineError('invalid_json', 'The text is not valid UTF-8.');
  }
}
