import { pipeline, Readable } from 'node:stream';
import type { ReadableStream as NodeReadableStream } from 'node:stream/web';
import { createGunzip } from 'node:zlib';
import type { Context, MiddlewareHandler } from 'hono';
import { VitrineError } from '../errors/vitrine-error.ts';
import { type Form, parseForm, readFormParts } from './forms.ts';
import { parseJson } from './json.ts';
import { createTurns } from './turns.ts';

const MEDIA_TYPES = {
  json: ['application/json'],
  ndjson: ['application/x-ndjson', 'application/ndjson', 'application/jsonl'],
  form: ['multipart/form-data'],
} as const;

export type BodyKind = keyof typeof MEDIA_TYPES;

/** Room for the fields next to the image. */
const FIELDS_BYTES = 131_072;

/** The size, in bytes, of a body with one image of `maxImageBytes`, in base64 or as a file. */
export const toBodyBytes = (maxImageBytes: number): number => Math.ceil(maxImageBytes / 3) * 4 + FIELDS_BYTES;

/** Smaller bodies are not counted. */
const LARGE_BODY_BYTES = 1_000_000;
/** Of all large bodies that are held in memory at the same time; what is parsed from them takes several times as much. */
const MAX_LARGE_BYTES = 268_435_456;
let largeBytes = 0;

/**
 * For the routes that read a body: inflates one that is compressed with gzip, and answers `body_too_large` as soon as
 * more than `maxBytes` have arrived, counted after inflation. Answers `server_busy` while the large bodies of other
 * requests fill the memory that is set aside for them.
 */
export function limitBody(maxBytes: number): MiddlewareHandler {
  const refuse = (): never => {
    throw new VitrineError('body_too_large', `The body has more than the allowed ${maxBytes} bytes.`);
  };
  return async (c, next) => {
    const statedBytes = Number(c.req.header('content-length') ?? Number.NaN);
    if (statedBytes > maxBytes) refuse();
    // HTTP delivers no more than the stated length. The stream isn't opened then: that would cost a third more time
    // per enqueue, and the server could no longer drain a refused body.
    const isPlain = Number.isFinite(statedBytes) && c.req.header('content-encoding') === undefined;
    if (isPlain && statedBytes < LARGE_BODY_BYTES) return next();

    using held = holdMemory();
    if (isPlain) held.add(statedBytes);
    else limitStream(c, maxBytes, held, refuse);
    return await next();
  };
}

interface HeldMemory extends Disposable {
  /** @throws VitrineError `server_busy` when the bodies of others leave no room; one that is alone may have any size */
  add(bytes: number): void;
}

function holdMemory(): HeldMemory {
  let own = 0;
  return {
    add(bytes) {
      if (largeBytes > own && largeBytes + bytes > MAX_LARGE_BYTES) {
        throw new VitrineError('server_busy', 'Other large bodies fill the memory for them.', {
          suggestion: 'Send it again after the seconds in Retry-After, or send smaller batches.',
          retryAfterMs: 2_000,
        });
      }
      own += bytes;
      largeBytes += bytes;
    },
    [Symbol.dispose]() {
      largeBytes -= own;
    },
  };
}

/** Replaces the body by one that is inflated and counted while it is read. */
function limitStream(c: Context, maxBytes: number, held: HeldMemory, refuse: () => never): void {
  const isCompressed = isGzip(c);
  const { body } = c.req.raw;
  if (body === null) return;
  const arriving = Readable.fromWeb(body as NodeReadableStream);
  async function* count(): AsyncGenerator<Uint8Array> {
    let bytes = 0;
    for await (const chunk of isCompressed ? inflate(arriving) : arriving) {
      bytes += chunk.length;
      if (bytes > maxBytes) refuse();
      held.add(chunk.length);
      yield chunk;
    }
  }
  const headers = new Headers(c.req.raw.headers);
  for (const name of ['content-encoding', 'content-length']) headers.delete(name);
  c.req.raw = new Request(c.req.raw, { headers, body: ReadableStream.from(count()), duplex: 'half' });
}

/** @throws VitrineError `unsupported_media_type` for any other compression */
function isGzip(c: Context): boolean {
  const coding = c.req.header('content-encoding')?.trim().toLowerCase() ?? 'identity';
  if (coding === 'gzip' || coding === 'x-gzip') return true;
  if (coding === 'identity') return false;
  c.header('Accept-Encoding', 'gzip');
  throw new VitrineError('unsupported_media_type', 'The body is compressed, and not with gzip.');
}

async function* inflate(compressed: Readable): AsyncGenerator<Uint8Array> {
  const inflated = pipeline(compressed, createGunzip(), () => undefined);
  try {
    yield* inflated;
  } catch (cause) {
    throw new VitrineError('invalid_request', 'The body is not complete, valid gzip.', {
      cause,
      suggestion: 'Compress the body with gzip, or send it uncompressed without Content-Encoding.',
    });
  } finally {
    inflated.destroy();
  }
}

/**
 * What kind of body the request carries.
 * @throws VitrineError `unsupported_media_type` for any that is not in `allowed`
 */
export function parseBodyKind<Kind extends BodyKind>(c: Context, allowed: readonly Kind[]): Kind {
  const type = (c.req.header('content-type') ?? '').split(';', 1)[0]?.trim().toLowerCase() ?? '';
  const kind = allowed.find((each) => MEDIA_TYPES[each].some((name) => name === type));
  if (kind !== undefined) return kind;
  const stated = type === '' ? 'no Content-Type' : 'a Content-Type that this address does not accept';
  throw new VitrineError('unsupported_media_type', `The request has ${stated}.`);
}

/** @throws VitrineError what `parseJson` and `limitBody` throw */
export async function readJson(c: Context): Promise<unknown> {
  return parseJson(await readBytes(c));
}

/** @throws VitrineError what `readFormParts`, `parseForm` and `limitBody` throw */
export async function readForm(c: Context): Promise<Form> {
  return parseForm(await readFormParts(await readBytes(c), c.req.header('content-type') ?? ''));
}

const NEWLINE = 0x0a;
const BLANKS = new Set([0x20, 0x09, 0x0d]);

/**
 * The lines of an NDJSON body without their ends; blank ones are left out.
 * @throws VitrineError `body_too_large` with more than `maxLines`, twice as many blank ones included
 */
export async function readLines(body: Uint8Array, maxLines: number): Promise<readonly Uint8Array[]> {
  const turn = createTurns();
  const lines: Uint8Array[] = [];
  let count = 0;
  for (let from = 0; from < body.length; ) {
    count++;
    const newline = body.indexOf(NEWLINE, from);
    const end = newline === -1 ? body.length : newline;
    const line = body.subarray(from, end);
    if (!line.every((byte) => BLANKS.has(byte))) lines.push(line);
    if (lines.length > maxLines || count > maxLines * 3) {
      throw new VitrineError('body_too_large', `The body has more than ${maxLines} lines.`);
    }
    from = end + 1;
    await turn();
  }
  return lines;
}

/** The whole body. @throws VitrineError what `limitBody` throws */
export const readBytes = async (c: Context): Promise<Uint8Array> => new Uint8Array(await c.req.arrayBuffer());
