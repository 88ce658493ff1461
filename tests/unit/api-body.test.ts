import { gzipSync } from 'node:zlib';
import { Hono } from 'hono';
import { describe, expect, test } from 'vitest';
import type { VitrineError } from '../../src/errors/vitrine-error.ts';
import {
  limitBody,
  parseBodyKind,
  readBytes,
  readForm,
  readJson,
  readLines,
} from '../../src/routing/body.ts';
import { parseForm } from '../../src/routing/forms.ts';
import { parseFile, parseImageRef } from '../../src/routing/image-fields.ts';
import { parseJson } from '../../src/routing/json.ts';

/** What the handler returns for the request, or the code that it throws. */
async function handle<T>(
  init: RequestInit,
  read: (c: Parameters<typeof readJson>[0]) => Promise<T>,
  maxBytes = 10_000,
) {
  let outcome: T | string | undefined;
  const app = new Hono();
  app.use(limitBody(maxBytes));
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

/** A body that arrives in the given pieces, without a Content-Length. */
const inPieces = (pieces: readonly (string | Uint8Array)[]): RequestInit => ({
  body: ReadableStream.from(pieces.map((piece) => (typeof piece === 'string' ? Buffer.from(piece) : piece))),
  duplex: 'half',
});

describe('lines', () => {
  const lines = (init: RequestInit) =>
    handle(init, async (c) =>
      (await readLines(await readBytes(c), 5)).map((line) => Buffer.from(line).toString()),
    );

  test('are the same however the body is cut', async () => {
    const text = Buffer.from('{"a":"é"}\r\n\n  \n{"b":2}\nlast');
    for (const size of [1, 2, 7, text.length]) {
      const pieces = Array.from({ length: Math.ceil(text.length / size) }, (_, at) =>
        text.subarray(at * size, (at + 1) * size),
      );
      expect(await lines(inPieces(pieces))).toEqual(['{"a":"é"}\r', '{"b":2}', 'last']);
    }
  });

  test('may be missing', async () => {
    expect(await lines({})).toEqual([]);
    expect(await lines(inPieces(['\n', '\n']))).toEqual([]);
  });

  test('are limited in number, blank ones too', async () => {
    expect(await lines(inPieces(['1\n'.repeat(5)]))).toHaveLength(5);
    expect(await lines(inPieces(['1\n'.repeat(6)]))).toBe('body_too_large');
    expect(await lines(inPieces(['1\n\n'.repeat(5)]))).toHaveLength(5);
    expect(await lines(inPieces(['\n'.repeat(16)]))).toBe('body_too_large');
  });
});

describe('JSON', () => {
  const json = (init: RequestInit) => handle(init, readJson, 100);

  test('is read', async () => expect(await json(inPieces(['{"a"', ':1}']))).toEqual({ a: 1 }));

  test('is refused when it is none, too long, too deep, or has a key __proto__', async () => {
    expect(await json(inPieces(['{']))).toBe('invalid_json');
    expect(await json({})).toBe('invalid_json');
    expect(await json(inPieces([new Uint8Array([0x22, 0xff, 0x22])]))).toBe('invalid_json');
    expect(await json(inPieces(['"', 'x'.repeat(100), '"']))).toBe('body_too_large');
    expect(await json({ body: '1', headers: { 'Content-Length': '101' } })).toBe('body_too_large');
    expect(() => parseJson(`${'['.repeat(33)}${']'.repeat(33)}`)).toThrow('nested deeper');
    expect(parseJson(`${'['.repeat(32)}${']'.repeat(32)}`)).toBeDefined();
    expect(() => parseJson('{"a":[{"__proto__":{"admin":true}}]}')).toThrow('__proto__');
    expect(parseJson(`[${'1,'.repeat(19_998)}1]`)).toHaveLength(19_999);
    expect(() => parseJson(`[${'1,'.repeat(20_000)}1]`)).toThrow('more than 20000 values');
    expect(parseJson(JSON.stringify('[{,"\\'.repeat(20_000)))).toHaveLength(100_000);
  });

  test('never has its text in the error', () => {
    expect(() => parseJson('{"secret": hunter2}')).not.toThrow('hunter2');
    expect(() => parseJson('{"secret": hunter2}')).toThrow('not valid JSON');
  });
});

describe('a body compressed with gzip', () => {
  const gzip = { 'Content-Encoding': 'gzip' };
  const json = (body: Buffer | ReadableStream, headers: Record<string, string> = gzip) =>
    handle({ body, headers, duplex: 'half' } as RequestInit, readJson, 1000);

  test('is read as if it had not been compressed', async () => {
    const bytes = gzipSync('{"a":[1,2,3]}');
    expect(await json(bytes)).toEqual({ a: [1, 2, 3] });
    expect(await json(bytes, { ...gzip, 'Content-Length': String(bytes.length) })).toEqual({ a: [1, 2, 3] });
    expect(await json(bytes, { 'Content-Encoding': 'X-GZIP' })).toEqual({ a: [1, 2, 3] });
    // As `cat` makes one of several files.
    expect(await json(Buffer.concat([gzipSync('{"a":'), gzipSync('1}')]))).toEqual({ a: 1 });
  });

  test('is limited by what it inflates to, and not inflated any further', async () => {
    let sent = 0;
    // A gigabyte of zeros.
    const bomb = Buffer.concat(Array(20).fill(gzipSync(Buffer.alloc(50_000_000))));
    const pieces = ReadableStream.from(
      (function* () {
        for (; sent < bomb.length; sent += 10_000) yield bomb.subarray(sent, sent + 10_000);
      })(),
    );
    expect(await json(pieces)).toBe('body_too_large');
    expect(sent).toBeLessThan(bomb.length / 2);
  });

  test('is refused when it is damaged, cut off, or of another coding', async () => {
    const bytes = gzipSync(`"${'text '.repeat(20)}"`);
    expect(await json(Buffer.from('{"a":1}'))).toBe('invalid_request');
    expect(await json(bytes.subarray(0, -5))).toBe('invalid_request');
    const damaged = Buffer.from(bytes);
    damaged[bytes.length - 6]! ^= 0xff;
    expect(await json(damaged)).toBe('invalid_request');
    expect(await json(bytes, { 'Content-Encoding': 'br' })).toBe('unsupported_media_type');
    expect(await json(bytes, { 'Content-Encoding': 'gzip, gzip' })).toBe('unsupported_media_type');
  });
});

test('the kind of a body follows from its type', async () => {
  const kind = (type: string) =>
    handle({ headers: { 'Content-Type': type }, body: 'x' }, async (c) => parseBodyKind(c, ['json', 'form']));
  expect(await kind('application/json; charset=utf-8')).toBe('json');
  expect(await kind('Multipart/Form-Data; boundary=x')).toBe('form');
  expect(await kind('application/x-ndjson')).toBe('unsupported_media_type');
  expect(await kind('text/plain')).toBe('unsupported_media_type');
  expect(await kind('')).toBe('unsupported_media_type');
});

describe('a form', () => {
  const form = (entries: readonly (readonly [string, string | Blob])[]): FormData => {
    const data = new FormData();
    for (const [name, value] of entries) data.append(name, value);
    return data;
  };
  const image = ['image', new Blob(['bytes'])] as const;
  const imagePart = ['image', new Uint8Array(5)] as const;

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
    const parsed = await handle({ body }, readForm);
    expect(parsed).toMatchObject({
      fields: { product_id: '12', price: 1.5, tags: ['a', 'b'], metadata: { a: 1 }, group_by_product: false },
    });
  });

  test('leaves what it cannot read for the schema to name', () => {
    const { fields } = parseForm([
      imagePart,
      ['price', 'cheap'],
      ['limit', ''],
      ['group_by_product', 'maybe'],
      ['__proto__', 'x'],
    ]);
    expect(Object.entries(fields)).toEqual([
      ['price', 'cheap'],
      ['limit', ''],
      ['group_by_product', 'maybe'],
      ['__proto__', 'x'],
    ]);
  });

  test('is refused without exactly one file, with a field twice, with a file as a field', () => {
    expect(() => parseForm([['product_id', 'p']])).toThrow('image must be exactly one file');
    expect(() => parseForm([['image', 'text']])).toThrow('image must be exactly one file');
    expect(() => parseForm([imagePart, imagePart])).toThrow('image must be exactly one file');
    const twice = [imagePart, ['name', 'a'], ['name', 'b']] as const;
    expect(() => parseForm(twice)).toThrow('name must be given once');
    expect(() => parseForm([imagePart, ['name', new Uint8Array(1)]])).toThrow('name must not be a file');
    expect(() => parseForm([imagePart, ['metadata', '{']])).toThrow('not valid JSON');
  });

  test('holds any bytes and any text', async () => {
    const bytes = Buffer.from(Array.from({ length: 3_000 }, (_, at) => at % 256));
    const body = form([
      ['image', new Blob([bytes], { type: 'text/plain' })],
      ['name', 'é\r\n--x 漢'],
    ]);
    expect(await handle({ body }, readForm)).toEqual({ file: bytes, fields: { name: 'é\r\n--x 漢' } });
  });

  test('is limited in the number and the size of its parts, and of their names', async () => {
    const many = (count: number) => form([image, ...Array(count).fill(['tags', 'a'])]);
    expect(await handle({ body: many(100) }, readForm, 1e6)).toMatchObject({
      fields: { tags: Array(100).fill('a') },
    });
    expect(await handle({ body: many(150) }, readForm, 1e6)).toBe('invalid_request');
    expect(await handle({ body: form([image, ['x'.repeat(101), '']]) }, readForm, 1e6)).toBe(
      'invalid_request',
    );
    const long = form([image, ['name', 'x'.repeat(200_000)]]);
    expect(await handle({ body: long }, readForm, 1e6)).toBe('invalid_request');
  });

  test('is refused when it is cut off, or has no boundary', async () => {
    const head = '--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nbytes';
    const send = (body: string, type = 'multipart/form-data; boundary=x') =>
      handle({ body, headers: { 'Content-Type': type } }, readForm);
    expect(await send(`${head}\r\n--x--\r\n`)).toMatchObject({ fields: {} });
    expect(await send(head)).toBe('invalid_request');
    expect(await send('')).toBe('invalid_request');
    expect(await send(`${head}\r\n--x--\r\n`, 'multipart/form-data')).toBe('invalid_request');
  });

  test('is refused when it is none', async () => {
    const headers = { 'Content-Type': 'multipart/form-data; boundary=x' };
    expect(await handle({ body: 'nonsense', headers }, readForm)).toBe('invalid_request');
  });
});

describe('the image of a request', () => {
  const limits = { maxBytes: 1000, roots: ['/srv/images'] };
  const base64Of = (image_base64: string) => {
    const image = parseImageRef({ image_base64 }, limits);
    return image?.kind === 'inline' ? image.base64 : undefined;
  };

  test('is base64, plain or as a data: URL', () => {
    expect(base64Of('YWJj')).toBe('YWJj');
    expect(base64Of('data:image/png;base64,YWI=')).toBe('YWI=');
  });

  test('is inline when its URL is a data: URL', () => {
    const ofUrl = (image_url: string) => parseImageRef({ image_url }, limits);
    const inline = { kind: 'inline', base64: 'YWI=' };
    expect(ofUrl('data:image/png;base64,YWI=')).toEqual(inline);
    expect(ofUrl('DATA:;charset=x;BASE64,YWI')).toEqual(inline);
    expect(ofUrl('https://shop.example/a.png')).toEqual({ kind: 'url', url: 'https://shop.example/a.png' });
    for (const bad of ['data:', 'data:image/png,abc', 'data:image/svg+xml;utf8,<svg/>', 'data:;base64,?'])
      expect(() => ofUrl(bad)).toThrow('image_url must be an http or https URL or a base64 data: URL');
    expect(() => ofUrl(`data:;base64,${Buffer.alloc(1001).toString('base64')}`)).toThrow('more than');
  });

  test('may be base64 without padding, and is stored as every decoder takes it', () => {
    for (let length = 1; length < 20; length++) {
      const base64 = Buffer.alloc(length, 0xfb).toString('base64');
      expect(base64Of(base64)).toBe(base64);
      expect(base64Of(base64.replaceAll('=', ''))).toBe(base64);
    }
    // Bits that mean nothing, set by a careless encoder.
    expect(base64Of('YR==')).toBe('YQ==');
  });

  test.each([
    'YW\nJj',
    'Y',
    'Y===',
    'YQ=',
    'YWJj==',
    'YQ==YQ==',
    'a-_b',
    'éééé',
    '=',
    '====',
    'data:image/png,abc',
    'data:;base64,',
  ])('is refused when it is not base64: %j', (image_base64) => {
    expect(() => base64Of(image_base64)).toThrow('image_base64 must be base64');
  });

  test('is limited', async () => {
    expect(base64Of(Buffer.alloc(1000).toString('base64'))).toBeDefined();
    expect(() => base64Of(Buffer.alloc(1001).toString('base64'))).toThrow('more than the allowed 1000 bytes');
    expect(parseFile(new Uint8Array(1000), limits)).toHaveLength(1000);
    expect(() => parseFile(new Uint8Array(1001), limits)).toThrow('more than the allowed');
    expect(() => parseFile(new Uint8Array(0), limits)).toThrow('must not be empty');
  });

  test('needs a root for paths', () => {
    expect(parseImageRef({ image_path: 'a.jpg' }, limits)).toEqual({ kind: 'path', path: 'a.jpg' });
    expect(() => parseImageRef({ image_path: 'a.jpg' }, { ...limits, roots: [] })).toThrow('No folder');
  });
});
