import fc, { type Arbitrary } from 'fast-check';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import type { Context } from '../../src/context.ts';
import { VitrineError } from '../../src/errors/vitrine-error.ts';
import { createApp } from '../../src/http/app.ts';
import { createWorker } from '../../workers/worker.ts';
import { createTestContext } from '../support/context.ts';
import { drawImage } from '../support/images.ts';
import { createOpenApiCheck, type OpenApiCheck } from '../support/openapi-check.ts';
import { type Schema, toValues } from '../support/schema-values.ts';

vi.setConfig({ testTimeout: 120_000 });

/** For all operations together. */
const BUDGET_MS = 20_000;
/** An answer that takes longer counts as none. */
const HANG_MS = 10_000;

interface Operation {
  readonly parameters?: readonly { readonly name: string; readonly in: string; readonly schema: Schema }[];
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: Schema }>> };
}

interface Document {
  readonly paths: Readonly<Record<string, Readonly<Record<string, Operation>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> };
}

let context: Context;
let app: ReturnType<typeof createApp>;
let document: Document;
let check: OpenApiCheck;
let image: Buffer;
/** Of a waiting job, a dead letter and a completed job. */
const jobIds: string[] = [];

beforeAll(async () => {
  context = await createTestContext({ ALLOW_FLUSH: 'true', IMAGE_MAX_BYTES: '100000' });
  // Nothing is fetched: the addresses are made up, and belong to others.
  const images: Context['images'] = {
    ...context.images,
    fetch: async (ref, signal) => {
      if (ref.kind === 'url') throw new VitrineError('image_not_found', 'There is nothing.');
      return context.images.fetch(ref, signal);
    },
  };
  app = createApp({ ...context, images });
  document = (await (await app.request('/openapi.json')).json()) as Document;
  check = createOpenApiCheck(document as never);
  image = await drawImage(1);
  const enqueue = async (job: object) => {
    const headers = { 'Content-Type': 'application/json' };
    const response = await app.request('/queue/enqueue', {
      method: 'POST',
      headers,
      body: JSON.stringify(job),
    });
    jobIds.push(((await response.json()) as { job_id: string }).job_id);
  };
  await context.embedder.start();
  await context.store.ensureCollection(context.embedder.model);
  await enqueue({ product_id: 'p', image_base64: image.toString('base64') });
  await enqueue({ product_id: 'bad', image_base64: 'AAAA' });
  await createWorker(context).run({ once: true });
  await enqueue({ product_id: 'later', image_base64: image.toString('base64'), delay_seconds: 1000 });
});
afterAll(() => context[Symbol.asyncDispose]());

interface Sent {
  readonly path: string;
  readonly headers: readonly (readonly [string, string])[];
  readonly body: string | FormData | Uint8Array<ArrayBuffer> | undefined;
}

const resolve = (reference: string): Schema => document.components.schemas[reference.split('/').at(-1)!]!;

const KNOWN: Readonly<Record<string, () => readonly string[]>> = {
  job_id: () => jobIds,
  image_id: () => ['main'],
  product_id: () => ['p', 'bad', 'a/b', '%', '漢'],
};

/** Requests for an operation: most are as the document has them, and the others are near it. */
function toRequests(path: string, operation: Operation): Arbitrary<Sent> {
  const parameters = (place: string) => {
    const own = (operation.parameters ?? []).filter((parameter) => parameter.in === place);
    const values = own.map(({ name, schema }) => {
      const known = KNOWN[name]?.() ?? [];
      const value =
        name === 'prefer'
          ? fc.constantFrom('wait=0', 'wait=x', 'respond-async')
          : known.length > 0
            ? fc.oneof(fc.constantFrom(...known), toValues(schema, resolve))
            : toValues(schema, resolve);
      return fc.option(
        value.map((each) => [name, toText(each)] as const),
        {
          nil: null,
          freq: place === 'path' ? 1e9 : 2,
        },
      );
    });
    return fc.tuple(...values).map((entries) => entries.filter((entry) => entry !== null));
  };
  return fc
    .tuple(parameters('path'), parameters('query'), parameters('header'), toBodies(operation))
    .map(([inPath, inQuery, inHeader, { type, body }]) => {
      const address = inPath.reduce(
        (text, [name, value]) => text.replace(`{${name}}`, toSegment(value)),
        path,
      );
      const query = new URLSearchParams(inQuery as [string, string][]).toString();
      const headers = [...inHeader, ...(type === undefined ? [] : [['Content-Type', type] as const])];
      return {
        path: query === '' ? address : `${address}?${query}`,
        headers: headers.filter(([, value]) => /^[\x20-\x7e]*$/.test(value)),
        body,
      };
    });
}

interface Body {
  readonly type: string | undefined;
  readonly body: Sent['body'];
}

function toBodies({ requestBody }: Operation): Arbitrary<Body> {
  const kinds = Object.entries(requestBody?.content ?? {}).map(([type, { schema }]): Arbitrary<Body> => {
    const values = toValues(schema, resolve);
    if (type === 'multipart/form-data') {
      return values.map((value) => ({ type: undefined, body: toForm(value) }));
    }
    if (type === 'application/x-ndjson') {
      const lines = fc.array(values, { maxLength: 4 });
      return lines.map((all) => ({ type, body: all.map((line) => JSON.stringify(line)).join('\n') }));
    }
    return values.map((value) => ({ type, body: JSON.stringify(value) }));
  });
  const none = fc.constant({ type: undefined, body: undefined });
  if (kinds.length === 0) return none;
  const types = [...Object.keys(requestBody?.content ?? {}), 'multipart/form-data; boundary=x', 'text/plain'];
  const noise = fc.oneof(
    fc.uint8Array({ maxLength: 200 }).map((bytes) => new Uint8Array(bytes)),
    fc.constantFrom('{', '[', '[1,', '"', '[[[', '{"a":1}{}', '\ufeff{}', 'null', '0', '--x\r\n', '--x--'),
  );
  const garbage = fc.record({ type: fc.constantFrom(...types), body: noise });
  return fc.oneof(
    { weight: 8, arbitrary: fc.oneof(...kinds) },
    { weight: 2, arbitrary: garbage },
    { weight: 1, arbitrary: none },
  );
}

/** URLs normalise an empty segment and those of dots away: they are other addresses. */
const toSegment = (value: string): string =>
  /^\.{0,2}$/.test(value) ? 'x' : encodeURIComponent(value.toWellFormed());

const toText = (value: unknown): string =>
  typeof value === 'string' ? value : (JSON.stringify(value) ?? '');

function toForm(value: unknown): FormData {
  const form = new FormData();
  if (typeof value !== 'object' || value === null) return form;
  for (const [name, field] of Object.entries(value)) {
    if (name === 'image')
      form.append(name, new Blob([toText(field).length % 2 === 0 ? new Uint8Array(image) : toText(field)]));
    else for (const each of [field].flat()) form.append(name, toText(each));
  }
  return form;
}

/** A stream of events goes on for ever, and samples are drawn for seconds: their beginnings are enough. */
async function readText(response: Response): Promise<string> {
  const isLong = /event-stream|ndjson/.test(response.headers.get('content-type') ?? '');
  if (!isLong || response.body === null) return response.text();
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const { value } = await reader.read();
  await reader.cancel();
  return value ?? '';
}

async function hold(
  method: string,
  { path, headers, body }: Sent,
  reached: Map<number, number>,
): Promise<void> {
  const asked = (async () => {
    const init = { method, headers: headers as [string, string][], ...(body !== undefined && { body }) };
    const response = await app.request(path, init);
    return { response, text: await readText(response) };
  })();
  const hung = new Promise<never>((_, reject) => {
    const timer = setTimeout(() => reject(new Error(`no answer within ${HANG_MS} ms`)), HANG_MS);
    void asked.finally(() => clearTimeout(timer)).catch(() => undefined);
  });
  const { response, text } = await Promise.race([asked, hung]);
  const type = response.headers.get('content-type') ?? '';
  reached.set(response.status, (reached.get(response.status) ?? 0) + 1);
  expect(response.status, text).toBeLessThan(500);
  if (response.status === 204) return;
  const answer = type.includes('json') && !type.includes('ndjson') ? (JSON.parse(text) as unknown) : text;
  check.response(method, path.split('?')[0]!, response.status, type, answer);
}

test('whatever is sent to any route, the answer is documented, and never a failure of the server', async () => {
  const seed = Number(process.env['FUZZ_SEED'] ?? Math.floor(Math.random() * 2 ** 31));
  console.log(`FUZZ_SEED=${seed}`);
  const operations = Object.entries(document.paths).flatMap(([path, item]) =>
    Object.entries(item).map(([method, operation]) => ({ path, method: method.toUpperCase(), operation })),
  );
  // What removes everything comes last.
  const isLast = ({ path, method }: { path: string; method: string }) =>
    Number(/flush|dead$|products/.test(path)) + Number(method === 'DELETE');
  for (const { path, method, operation } of operations.toSorted(
    (one, other) => isLast(one) - isLast(other),
  )) {
    const reached = new Map<number, number>();
    const isFixed = operation.parameters === undefined && operation.requestBody === undefined;
    await fc.assert(
      fc.asyncProperty(toRequests(path, operation), (sent) => hold(method, sent, reached)),
      {
        seed,
        numRuns: isFixed ? 3 : 500,
        interruptAfterTimeLimit: isFixed ? HANG_MS : BUDGET_MS / operations.length,
        markInterruptAsFailure: false,
        endOnFailure: true,
      },
    );
    const statuses = [...reached].toSorted().map(([status, count]) => `${status}×${count}`);
    console.log(`${method} ${path}: ${statuses.join(' ')}`);
    expect(reached.size, `${method} ${path}`).toBeGreaterThan(0);
  }
});
