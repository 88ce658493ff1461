import { Busboy, type BusboyInstance } from '@fastify/busboy';
import { VitrineError } from '../errors/vitrine-error.ts';
import { invalidRequest } from './faults.ts';
import { parseJson } from './json.ts';
import { createTurns } from './turns.ts';

export interface Form {
  readonly file: Uint8Array;
  /** The other fields, as JSON would have them, for the same schema to check. */
  readonly fields: Readonly<Record<string, unknown>>;
}

/** One field or file of a form. */
export type FormPart = readonly [name: string, value: string | Uint8Array];

/** A hundred tags, and every other field twice. */
const MAX_PARTS = 150;
const MAX_NAME_BYTES = 100;
const MAX_FIELD_BYTES = 131_072;
const MAX_HEADER_BYTES = 8_192;
/** Read at once. */
const CHUNK_BYTES = 65_536;

/**
 * The parts of a multipart form.
 * @throws VitrineError `invalid_request` when it isn't one, or has more or larger parts than any request here
 */
export async function readFormParts(body: Uint8Array, contentType: string): Promise<readonly FormPart[]> {
  const turn = createTurns();
  const parts: FormPart[] = [];
  let failure: VitrineError | null = null;
  const fail = (detail: string, cause?: unknown) => {
    failure ??= new VitrineError('invalid_request', detail, {
      cause,
      suggestion: 'Send multipart/form-data with its boundary, as `curl -F` does.',
    });
  };
  const parser = createParser(contentType);
  const ended = Promise.withResolvers<void>();
  parser.on('field', (name, value, isNameCut, isValueCut) => {
    if (isNameCut || Buffer.byteLength(name) > MAX_NAME_BYTES)
      fail('A field of the form has too long a name.');
    else if (isValueCut) fail(`A field of the form has more than ${MAX_FIELD_BYTES} bytes.`);
    else parts.push([name, value]);
  });
  parser.on('file', (name, stream) => {
    const chunks: Uint8Array[] = [];
    stream.on('data', (chunk: Uint8Array) => chunks.push(chunk));
    stream.on('end', () => parts.push([name, Buffer.concat(chunks)]));
    stream.on('error', () => undefined);
  });
  parser.on('partsLimit', () => fail(`The form has more than ${MAX_PARTS} parts.`));
  parser.on('error', (error) => {
    fail('The form could not be read.', error);
    ended.resolve();
  });
  parser.on('finish', () => ended.resolve());
  for (let from = 0; from < body.length && failure === null; from += CHUNK_BYTES) {
    parser.write(body.subarray(from, from + CHUNK_BYTES));
    await turn();
  }
  if (failure === null) {
    parser.end();
    await ended.promise;
  }
  parser.destroy();
  if (failure !== null) throw failure;
  return parts;
}

/** @throws VitrineError `invalid_request` without a boundary */
function createParser(contentType: string): BusboyInstance {
  try {
    return new Busboy({
      headers: { 'content-type': contentType },
      isPartAFile: (_name, _type, fileName) => fileName !== undefined,
      limits: {
        parts: MAX_PARTS,
        fieldNameSize: MAX_NAME_BYTES,
        fieldSize: MAX_FIELD_BYTES,
        headerSize: MAX_HEADER_BYTES,
        headerPairs: 20,
      },
    });
  } catch (cause) {
    throw new VitrineError('invalid_request', 'The form has no boundary.', {
      cause,
      suggestion: 'Send multipart/form-data with its boundary, as `curl -F` does.',
    });
  }
}

type Reader = (value: string) => unknown;

// What doesn't read as its kind stays as it is: the schema then says what it should have been.
const asNumber: Reader = (value) =>
  value.trim() === '' || Number.isNaN(Number(value)) ? value : Number(value);
const asBoolean: Reader = (value) => (value === 'true' ? true : value === 'false' ? false : value);

const READERS = new Map<string, Reader>([
  ...['price', 'version', 'delay_seconds', 'soft_timeout_ms', 'hard_timeout_ms'].map(
    (name) => [name, asNumber] as const,
  ),
  ...['limit', 'offset', 'score_threshold', 'diversify'].map((name) => [name, asNumber] as const),
  ...['metadata', 'retry', 'filter', 'weights', 'crop', 'facets'].map((name) => [name, parseJson] as const),
  ['group_by_product', asBoolean],
]);

const LISTS = new Set(['tags', 'exclude']);

/**
 * The file and the fields of a form.
 * @throws VitrineError `invalid_request` without exactly one file `image`, or with a field given twice;
 * `invalid_json` for a field that should hold JSON
 */
export function parseForm(parts: readonly FormPart[]): Form {
  const byName = Map.groupBy(parts, ([name]) => name);
  const images = byName.get('image') ?? [];
  byName.delete('image');
  const fields: [string, unknown][] = [];
  for (const [name, same] of byName) {
    const values = same.map(([, value]) => {
      if (typeof value !== 'string') throw invalidRequest([{ path: name, message: 'must not be a file' }]);
      return value;
    });
    if (LISTS.has(name)) fields.push([name, values]);
    else if (values.length > 1) throw invalidRequest([{ path: name, message: 'must be given once' }]);
    else fields.push([name, (READERS.get(name) ?? String)(values[0] ?? '')]);
  }
  const file = images[0]?.[1];
  if (typeof file === 'string' || file === undefined || images.length > 1) {
    throw invalidRequest([{ path: 'image', message: 'must be exactly one file' }]);
  }
  return { file, fields: Object.fromEntries(fields) };
}
