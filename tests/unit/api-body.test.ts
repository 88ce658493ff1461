import { Hono } from 'hono';
import { describe, expect, test } from 'vitest';
import { parseConfig } from '../../src/config/config.ts';
import type { VitrineError } from '../../src/errors/vitrine-error.ts';
import { readForm, readJson, readLines, toBodyKind } from '../../src/routing/body.ts';
import { parseForm } from '../../src/routing/forms.ts';
import { toFileRef, toImageRef } from '../../src/routing/image-ref.ts';
import { parseJson } from '../../src/routing/json.ts';

/** What the handler gives for the request, or the code that it throws. */
async function handle<T>(init: RequestInit, read: (c: Parameters<typeof readJson>[0]) => Promise<T>) {
  let outcome: T | string | undefined;
  const app = new Hono();
  app.post('/', async (c) => {
    outcome = await read(c);
    return c.body(null);
  });
  app.onError((error, c) => {
    outcome = (error as VitrineError).code ?? String(error);
    return c.body(null);
  });
  await app.request('/', { method: 'POST', ...init });
  return outcome;
}

/** A body that arrives in the given pieces, its length unsaid. */
const inPieces = (pieces: readonly (string | Uint8Array)[]): RequestInit => ({
  body: ReadableStream.from(pieces.map((piece) => (typeof piece === 'string' ? Buffer.from(piece) : piece))),
  duplex: 'half',
});

describe('lines', () => {
  const lines = (init: RequestInit, maxBytes = 1000, maxLineBytes = 100) =>
    handle(init, async (c) => {
      const seen = await Array.fromAsync(readLines(c, { maxBytes, maxLineBytes }));
      return seen.map((line) => Buffer.from(line).toString());
    });

  test('are the same however they are cut', async () => {
    const text = Buffer.from('{"a":"é"}\r\n\n  \n{"b":2}\nlast');
    const expected = ['{"a":"é"}\r', '{"b":2}', 'last'];
    for (let size = 1; size <= text.length; size++) {
      const pieces = Array.from({ length: Math.ceil(text.length / size) }, (_, at) =>
        text.subarray(at * size, (at + 1) * size),
      );
      expect(await lines(inPieces(pieces))).toEqual(expected);
    }
  });

  test('may be missing', async () => {
    expect(await lines({})).toEqual([]);
    expect(await lines(inPieces(['\n', '\n']))).toEqual([]);
  });

  test('are limited, each and all together', async () => {
    expect(await lines(inPieces(['x'.repeat(60), 'x'.repeat(60)]))).toBe('body_too_large');
    expect(await lines(inPieces(Array(20).fill(`${'x'.repeat(99)}\n`)))).toBe('body_too_large');
  });
});

describe('JSON', () => {
  const json = (init: RequestInit, maxBytes = 100) => handle(init, (c) => readJson(c, maxBytes));

  test('is read', async () => expect(await json(inPieces(['{"a"', ':1}']))).toEqual({ a: 1 }));

  test('is refused when it is none, too long, too deep or a trap', async () => {
    expect(await json(inPieces(['{']))).toBe('invalid_json');
    expect(await json({})).toBe('invalid_json');
    expect(await json(inPieces([new Uint8Array([0x22, 0xff, 0x22])]))).toBe('invalid_json');
    expect(await json(inPieces(['"', 'x'.repeat(100), '"']))).toBe('body_too_large');
    expect(await json({ body: '1', headers: { 'Content-Length': '101' } })).toBe('body_too_large');
    expect(() => parseJson(`${'['.repeat(33)}${']'.repeat(33)}`)).toThrow('nested deeper');
    expect(parseJson(`${'['.repeat(32)}${']'.repeat(32)}`)).toBeDefined();
    expect(() => parseJson('{"a":[{"__proto__":{"admin":true}}]}')).toThrow('__proto__');
  });

  test('never has its text in the error', () => {
    expect(() => parseJson('{"secret": hunter2}')).not.toThrow('hunter2');
    expect(() => parseJson('{"secret": hunter2}')).toThrow('not valid JSON');
  });
});

test('the kind of a body is told by its type', async () => {
  const kind = (headers: Record<string, string>) =>
    handle({ headers, body: 'x' }, async (c) => toBodyKind(c, ['json', 'form']));
  expect(await kind({ 'Content-Type': 'application/json; charset=utf-8' })).toBe('json');
  expect(await kind({ 'Content-Type': 'Multipart/Form-Data; boundary=x' })).toBe('form');
  expect(await kind({ 'Content-Type': 'application/x-ndjson' })).toBe('unsupported_media_type');
  expect(await kind({ 'Content-Type': 'text/plain' })).toBe('unsupported_media_type');
  expect(await kind({ 'Content-Type': '' })).toBe('unsupported_media_type');
  expect(await kind({ 'Content-Type': 'application/json', 'Content-Encoding': 'gzip' })).toBe(
    'unsupported_media_type',
  );
});

describe('a form', () => {
  const form = (entries: readonly (readonly [string, string | Blob])[]): FormData => {
    const data = new FormData();
    for (const [name, value] of entries) data.append(name, value);
    return data;
  };
  const image = ['image', new Blob(['bytes'])] as const;

  test('is read as JSON would be', async () => {
    const body = form([
      image,
      ['product_id', '12'],
      ['price', '1.5'],
      ['tags', 'a'],
      ['tags', 'b'],
      ['metadata', '{"a":1}'],
      ['group_by_product', 'false'],
    ]);
    const parsed = await handle({ body }, async (c) => parseForm(await readForm(c, 10_000)));
    expect(parsed).toMatchObject({
      fields: { product_id: '12', price: 1.5, tags: ['a', 'b'], metadata: { a: 1 }, group_by_product: false },
    });
  });

  test('leaves what it cannot read for the schema to name', () => {
    const { fields } = parseForm(
      form([image, ['price', 'cheap'], ['limit', ''], ['group_by_product', 'maybe']]),
    );
    expect(fields).toEqual({ price: 'cheap', limit: '', group_by_product: 'maybe' });
  });

  test('is refused without exactly one file, with a field twice, with a file as a field', () => {
    expect(() => parseForm(form([['product_id', 'p']]))).toThrow('image must be exactly one file');
    expect(() => parseForm(form([['image', 'text']]))).toThrow('image must be exactly one file');
    expect(() => parseForm(form([image, image]))).toThrow('image must be exactly one file');
    expect(() => parseForm(form([image, ['name', 'a'], ['name', 'b']]))).toThrow('name must be given once');
    expect(() => parseForm(form([image, ['name', new Blob(['a'])]]))).toThrow('name must not be a file');
    expect(() => parseForm(form([image, ['metadata', '{']]))).toThrow('not valid JSON');
  });

  test('is refused when it is none', async () => {
    const headers = { 'Content-Type': 'multipart/form-data; boundary=x' };
    expect(await handle({ body: 'nonsense', headers }, (c) => readForm(c, 100))).toBe('invalid_request');
  });
});

describe('an image reference', () => {
  const config = parseConfig({ IMAGE_MAX_BYTES: '1000', IMAGE_ROOTS: '/srv/images' });

  test('is the bytes in base64, plain or as a data: URL', () => {
    expect(toImageRef({ image_base64: 'YWJj' }, config)).toEqual({ kind: 'inline', base64: 'YWJj' });
    expect(toImageRef({ image_base64: 'data:image/png;base64,YWI=' }, config)).toEqual({
      kind: 'inline',
      base64: 'YWI=',
    });
  });

  test.each(['YW\nJj', 'Y', 'Y===', 'a-_b', 'data:image/png,abc', 'data:;base64,'])(
    'refuses %j',
    (image_base64) => {
      expect(() => toImageRef({ image_base64 }, config)).toThrow('must be base64');
    },
  );

  test('is limited', async () => {
    const atLimit = Buffer.alloc(1000).toString('base64');
    expect(toImageRef({ image_base64: atLimit }, config)).toMatchObject({ kind: 'inline' });
    const over = Buffer.alloc(1003).toString('base64');
    expect(() => toImageRef({ image_base64: over }, config)).toThrow('more than the 1000 bytes');
    await expect(toFileRef(new File([new Uint8Array(1001)], 'a'), config)).rejects.toThrow(
      'more than the 1000',
    );
    await expect(toFileRef(new File([], 'a'), config)).rejects.toThrow('must not be empty');
  });

  test('needs a root for paths', () => {
    expect(toImageRef({ image_path: 'a.jpg' }, config)).toEqual({ kind: 'path', path: 'a.jpg' });
    expect(() => toImageRef({ image_path: 'a.jpg' }, parseConfig({}))).toThrow('No folder');
  });
});
