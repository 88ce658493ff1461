import { pipeline, Readable } from 'node:stream';
import type { ReadableStream as NodeReadableStream } from 'node:stream/web';
import { createGunzip } from 'node:zlib';
import type { Context, MiddlewareHandler } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import { every } from 'hono/combine';
import { VitrineError } from '../errors/vitrine-error.ts';
import { type Form, parseForm } from './forms.ts';
import { decodeUtf8, parseJson } from './json.ts';

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

/**
 * For the routes that read a body: inflates one that is compressed with gzip, and answers `body_too_large` as soon as
 * more than `maxBytes` have arrived, counted after inflation.
 */
export function limitBody(maxBytes: number): MiddlewareHandler {
  const refuse = (): never => {
    throw new VitrineError('body_too_large', `The body has more than the allowed ${maxBytes} bytes.`);
  };
  const limitStream = every(inflateBody, bodyLimit({ maxSize: maxBytes, onError: refuse }));
  return (c, next) => {
    const statedBytes = Number(c.req.header('content-length') ?? Number.NaN);
    if (statedBytes > maxBytes) refuse();
    // HTTP delivers no more than the stated length. The stream isn't opened then: that would cost a third more time
    // per enqueue, and the server could no longer drain a refused body.
    const isPlain = Number.isFinite(statedBytes) && c.req.header('content-encoding') === undefined;
    return isPlain ? next() : limitStream(c, next);
  };
}

const inflateBody: MiddlewareHandler = async (c, next) => {
  const coding = c.req.header('content-encoding')?.trim().toLowerCase() ?? 'identity';
  if (coding === 'identity') return next();
  if (coding !== 'gzip' && coding !== 'x-gzip') {
    c.header('Accept-Encoding', 'gzip');
    throw new VitrineError('unsupported_media_type', 'The body is compressed, and not with gzip.');
  }
  const { body } = c.req.raw;
  if (body === null) return next();
  const headers = new Headers(c.req.raw.headers);
  headers.delete('content-encoding');
  // It counts compressed bytes; without it the limit counts what comes out.
  headers.delete('content-length');
  const inflated = pipeline(Readable.fromWeb(body as NodeReadableStream), createGunzip(), () => undefined);
  c.req.raw = new Request(c.req.raw, {
    headers,
    body: ReadableStream.from(toChunks(inflated)),
    duplex: 'half',
  });
  try {
    await next();
  } finally {
    inflated.destroy();
  }
};

async function* toChunks(inflated: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array> {
  try {
    yield* inflated;
  } catch (cause) {
    throw new VitrineError('invalid_request', 'The body is not complete, valid gzip.', {
      cause,
      suggestion: 'Compress the body with gzip, or send it uncompressed without Content-Encoding.',
    });
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

/** @throws VitrineError `invalid_json`, and what `limitBody` throws */
export async function readJson(c: Context): Promise<unknown> {
  return parseJson(decodeUtf8(await readBytes(c)));
}

/** @throws VitrineError `invalid_request` when it isn't a form, and what `parseForm` throws */
export async function readForm(c: Context): Promise<Form> {
  const form = await c.req.formData().catch((cause: unknown) => {
    throw new VitrineError('invalid_request', 'The form could not be read.', {
      cause,
      suggestion: 'Send multipart/form-data with its boundary, as `curl -F` does.',
    });
  });
  return parseForm(form);
}

const NEWLINE = 0x0a;
const BLANKS = new Set([0x20, 0x09, 0x0d]);

/** The lines of an NDJSON body without their ends; blank ones are left out. */
export async function readLines(c: Context): Promise<readonly Uint8Array[]> {
  const bytes = await readBytes(c);
  const lines: Uint8Array[] = [];
  for (let from = 0; from < bytes.length; ) {
    const newline = bytes.indexOf(NEWLINE, from);
    const end = newline === -1 ? bytes.length : newline;
    const line = bytes.subarray(from, end);
    if (!line.every((byte) => BLANKS.has(byte))) lines.push(line);
    from = end + 1;
  }
  return lines;
}

const readBytes = async (c: Context): Promise<Uint8Array> => new Uint8Array(await c.req.arrayBuffer());
