import type { Context as HonoContext } from 'hono';
import { VitrineError } from '../errors/vitrine-error.ts';
import { decodeUtf8, parseJson } from './json.ts';

const JSON_TYPE = 'application/json';
const NDJSON_TYPES = ['application/x-ndjson', 'application/ndjson', 'application/jsonl'];
const FORM_TYPE = 'multipart/form-data';

export type BodyKind = 'json' | 'ndjson' | 'form';

/**
 * What kind of body the request carries.
 * @throws VitrineError `unsupported_media_type` for any that is not in `allowed`, and for compressed ones
 */
export function toBodyKind(c: HonoContext, allowed: readonly BodyKind[]): BodyKind {
  const encoding = c.req.header('content-encoding') ?? 'identity';
  if (encoding !== 'identity') {
    throw new VitrineError('unsupported_media_type', 'Compressed request bodies are not taken.');
  }
  const type = (c.req.header('content-type') ?? '').split(';', 1)[0]?.trim().toLowerCase() ?? '';
  const kind = toKind(type);
  if (kind === undefined || !allowed.includes(kind)) {
    const stated = type === '' ? 'no Content-Type' : 'a Content-Type that this address does not take';
    throw new VitrineError('unsupported_media_type', `The request has ${stated}.`);
  }
  return kind;
}

function toKind(type: string): BodyKind | undefined {
  if (type === JSON_TYPE) return 'json';
  if (NDJSON_TYPES.includes(type)) return 'ndjson';
  return type === FORM_TYPE ? 'form' : undefined;
}

/** @throws VitrineError `body_too_large`, `invalid_json` */
export async function readJson(c: HonoContext, maxBytes: number): Promise<unknown> {
  return parseJson(decodeUtf8(await readBytes(c, maxBytes)));
}

/** @throws VitrineError `body_too_large`, `invalid_request` when it isn't a form */
export async function readForm(c: HonoContext, maxBytes: number): Promise<FormData> {
  const bytes = await readBytes(c, maxBytes);
  try {
    const type = c.req.header('content-type') ?? '';
    return await new Response(bytes, { headers: { 'Content-Type': type } }).formData();
  } catch {
    throw new VitrineError('invalid_request', 'The form could not be read.', {
      suggestion: 'Send multipart/form-data with its boundary, as `curl -F` does.',
    });
  }
}

/**
 * The lines of the body as they arrive, without their ends; blank ones are left out.
 * @throws VitrineError `body_too_large` when all or a single one is longer than allowed
 */
export async function* readLines(
  c: HonoContext,
  limits: { readonly maxBytes: number; readonly maxLineBytes: number },
): AsyncGenerator<Uint8Array> {
  const parts: Uint8Array[] = [];
  let held = 0;
  const hold = (part: Uint8Array): void => {
    held += part.byteLength;
    if (held > limits.maxLineBytes) throw tooLarge('A line', limits.maxLineBytes);
    parts.push(part);
  };
  const take = (): Uint8Array => {
    const line = Buffer.concat(parts.splice(0));
    held = 0;
    return line;
  };
  for await (const chunk of readChunks(c, limits.maxBytes)) {
    let from = 0;
    for (let end = chunk.indexOf(NEWLINE); end !== -1; end = chunk.indexOf(NEWLINE, from)) {
      hold(chunk.subarray(from, end));
      from = end + 1;
      const line = take();
      if (!isBlank(line)) yield line;
    }
    hold(chunk.subarray(from));
  }
  const last = take();
  if (!isBlank(last)) yield last;
}

const NEWLINE = 0x0a;
const BLANKS = new Set([0x20, 0x09, 0x0d]);
const isBlank = (line: Uint8Array): boolean => line.every((byte) => BLANKS.has(byte));

async function readBytes(c: HonoContext, maxBytes: number): Promise<Uint8Array<ArrayBuffer>> {
  // Where the length is stated and small enough, no stream is needed: HTTP gives no more than was stated.
  if (toStatedLength(c, maxBytes) !== null) return limit(new Uint8Array(await c.req.arrayBuffer()), maxBytes);
  const parts: Uint8Array[] = [];
  for await (const chunk of readChunks(c, maxBytes)) parts.push(chunk);
  return Buffer.concat(parts);
}

async function* readChunks(c: HonoContext, maxBytes: number): AsyncGenerator<Uint8Array> {
  toStatedLength(c, maxBytes);
  let seen = 0;
  for await (const chunk of c.req.raw.body ?? []) {
    seen += chunk.byteLength;
    if (seen > maxBytes) throw tooLarge('The body', maxBytes);
    yield chunk;
  }
}

/** @throws VitrineError `body_too_large` before a byte is read, where the sender says how many will come */
function toStatedLength(c: HonoContext, maxBytes: number): number | null {
  const header = c.req.header('content-length');
  if (header === undefined) return null;
  const length = Number(header);
  if (length > maxBytes) throw tooLarge('The body', maxBytes);
  return length;
}

function limit(bytes: Uint8Array<ArrayBuffer>, maxBytes: number): Uint8Array<ArrayBuffer> {
  if (bytes.byteLength > maxBytes) throw tooLarge('The body', maxBytes);
  return bytes;
}

const tooLarge = (what: string, maxBytes: number): VitrineError =>
  new VitrineError('body_too_large', `${what} has more than the ${maxBytes} bytes that are allowed.`);
