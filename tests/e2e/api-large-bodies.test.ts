import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { createTempFolder } from '../support/context.ts';
import { type LivezWatch, watchLivez } from '../support/livez-watch.ts';
import { type Program, startProgram } from '../support/program.ts';
import { until } from '../support/until.ts';

vi.setConfig({ testTimeout: 180_000 });

/** Promised is a second; other programs work on this machine too. */
const LIVEZ_MS = 3 * 1_000;

let folder: Awaited<ReturnType<typeof createTempFolder>>;
let program: Program;
let url: string;
let livez: LivezWatch;
beforeAll(async () => {
  folder = await createTempFolder();
  program = startProgram('src/main.ts', { PORT: '0', DATA_DIR: folder.path, MODEL: 'builtin' }, [], {
    nodeArgs: ['--max-old-space-size=1024'],
  });
  url = await until('the address', () => /"url":"([^"]+)"/.exec(program.output)?.[1]);
  await until('readiness', async () => ((await fetch(`${url}/readyz`)).ok ? true : undefined));
  livez = watchLivez(url);
});
afterAll(async () => {
  await livez[Symbol.asyncDispose]();
  await program[Symbol.asyncDispose]();
  await folder[Symbol.asyncDispose]();
});

/** The answer, and the longest that /livez took until it came. */
async function post(path: string, contentType: string, body: Uint8Array<ArrayBuffer>, headers = {}) {
  await livez.readSlowestMs();
  const { status, answer } = await fetch(`${url}${path}`, {
    method: 'POST',
    headers: { 'Content-Type': contentType, ...headers },
    body,
  }).then(
    async (response) => ({ status: response.status, answer: await response.text() }),
    // A refusal is sent before the body has come, and the client may be cut off before it reads it.
    (error: Error) => ({ status: 'cut off', answer: String(error.cause) }),
  );
  return { status, answer, slowestMs: await livez.readSlowestMs() };
}

/** `unit` again and again between `head` and `tail`, `bytes` long in all. */
function repeat(head: string, unit: string, tail: string, bytes: number): Buffer<ArrayBuffer> {
  const body = Buffer.alloc(bytes, unit);
  body.write(head, 0);
  const units = Math.floor((bytes - head.length - tail.length) / unit.length);
  const end = head.length + units * unit.length;
  body.fill(unit, head.length, end);
  body.write(tail, end);
  return body.subarray(0, end + tail.length) as Buffer<ArrayBuffer>;
}

const BATCH_BYTES = 67_108_864;
/** The largest body of one job. */
const JOB_BYTES = 26_600_000;
const job = (fields: string) => `{"product_id":"p","image_url":"https://example.com/a.jpg"${fields}}`;
const json = 'application/json';
const ndjson = 'application/x-ndjson';
const batch = '/queue/enqueue/batch';
const enqueue = '/queue/enqueue';

const formFields = (count: number) =>
  Array.from(
    { length: count },
    (_, at) => `--x\r\nContent-Disposition: form-data; name="f${at}"\r\n\r\nv\r\n`,
  ).join('');
const keys = (count: number, value: string) =>
  Array.from({ length: count }, (_, at) => `"k${at}":${value}`).join(',');
const jobs = (count: number, metadata: (at: number) => string) =>
  Buffer.from(`[${Array.from({ length: count }, (_, at) => job(`,"metadata":${metadata(at)}`)).join(',')}]`);

test.each<[string, string, string, () => Uint8Array<ArrayBuffer>, number]>([
  ['64 MB of empty objects', batch, json, () => repeat('[{}', ',{}', ']', BATCH_BYTES), 413],
  ['64 MB of empty lists', batch, json, () => repeat('[[]', ',[]', ']', BATCH_BYTES), 413],
  ['64 MB of empty objects in one job', batch, json, () => repeat('[[{}', ',{}', ']]', BATCH_BYTES), 413],
  ['64 MB of opening brackets', batch, json, () => repeat('[', '[', '[', BATCH_BYTES), 400],
  ['64 MB of spaces', batch, json, () => repeat('[', ' ', ']', BATCH_BYTES), 400],
  ['64 MB of one escaped text', batch, json, () => repeat('["', '\\"', '"]', BATCH_BYTES), 202],
  [
    '64 MB of one object with unknown fields',
    batch,
    json,
    () => repeat('[{"a":1', ',"a":1', '}]', BATCH_BYTES),
    413,
  ],
  [
    '10,000 jobs of many small values',
    batch,
    json,
    () => jobs(10_000, () => `[${'{},'.repeat(2000)}1]`),
    413,
  ],
  ['10,000 jobs of many unknown fields', batch, json, () => jobs(10_000, () => `{},${keys(90, '1')}`), 202],
  ['10,000 jobs with long names', batch, json, () => jobs(10_000, () => `{"n":"${'é'.repeat(3000)}"}`), 202],
  ['10 million empty lines', batch, ndjson, () => repeat('\n', '\n', '\n', 10_000_000), 413],
  ['32 million lines of a space', batch, ndjson, () => repeat(' \n', ' \n', ' \n', BATCH_BYTES), 413],
  [
    '11 million lines of an empty object',
    batch,
    ndjson,
    () => repeat('{}\n', '{}\n', '{}\n', BATCH_BYTES),
    413,
  ],
  ['one line of 64 MB', batch, ndjson, () => repeat('{"a":"', 'x', '"}', BATCH_BYTES), 202],
  ['one line of 64 MB of empty lists', batch, ndjson, () => repeat('[[]', ',[]', ']', BATCH_BYTES), 413],
  [
    'a form with 40,000 fields',
    enqueue,
    'multipart/form-data; boundary=x',
    () => Buffer.from(`${formFields(40_000)}--x--\r\n`),
    400,
  ],
  [
    'a form of 26 MB of dashes',
    enqueue,
    'multipart/form-data; boundary=x',
    () => repeat('--x\r\n', '\r\n--', '--x--\r\n', JOB_BYTES),
    400,
  ],
  [
    'a form with a header of 26 MB',
    enqueue,
    'multipart/form-data; boundary=x',
    () => repeat('--x\r\nA: ', 'a', '\r\n--x--\r\n', JOB_BYTES),
    400,
  ],
  ['100,000 unknown fields', enqueue, json, () => Buffer.from(job(`,${keys(100_000, '1')}`)), 400],
  ['10,000 unknown fields', enqueue, json, () => Buffer.from(job(`,${keys(10_000, '1')}`)), 400],
  ['26 MB of empty objects', enqueue, json, () => repeat('[{}', ',{}', ']', JOB_BYTES), 400],
  [
    '26 MB of metadata',
    enqueue,
    json,
    () => repeat(job(',"metadata":{"a":"').slice(0, -1), 'x', '"}}', JOB_BYTES),
    400,
  ],
  [
    '26 MB of escapes as an image',
    enqueue,
    json,
    () => repeat('{"product_id":"p","image_base64":"', '\\u0041', '"}', JOB_BYTES),
    202,
  ],
  [
    'a filter with 5,000 keys',
    '/search',
    json,
    () => Buffer.from(`{"text":"a","filter":{"metadata":{${keys(5_000, '1')}}}}`),
    400,
  ],
  [
    '10,000 ids',
    '/queue/dead/redrive',
    json,
    () => Buffer.from(JSON.stringify({ ids: Array(10_001).fill('x') })),
    400,
  ],
])('during %s /livez answers at once', async (_name, path, contentType, makeBody, expected) => {
  const body = makeBody();
  for (const headers of [{}, ...(path === batch ? [{ 'Content-Encoding': 'gzip' }] : [])]) {
    const sent = 'Content-Encoding' in headers ? new Uint8Array(gzipSync(body, { level: 1 })) : body;
    const { status, answer, slowestMs } = await post(path, contentType, sent, headers);
    console.log(`${_name} ${JSON.stringify(headers)}: ${status}, /livez ${Math.round(slowestMs)} ms`);
    expect(status, answer.slice(0, 500)).toBe(expected);
    expect(answer.length).toBeLessThan(10_000_000);
    expect(slowestMs).toBeLessThan(LIVEZ_MS);
  }
  expect(program.child.exitCode).toBeNull();
});

test.each<[string, number, string, () => Uint8Array<ArrayBuffer>]>([
  ['batches', 8, batch, () => jobs(10_000, () => `{"n":[${'1,'.repeat(150)}1]}`)],
  ['batches of 64 MB', 8, batch, () => jobs(10_000, () => `{"n":"${'漢'.repeat(2000)}"}`)],
  ['jobs of 26 MB', 30, enqueue, () => repeat('{"product_id":"p","image_base64":"', 'AAAA', '"}', JOB_BYTES)],
])('many large %s at once leave the server alive', async (_name, count, path, makeBody) => {
  const body = makeBody();
  const headers = { 'Idempotency-Key': _name.replaceAll(' ', '-') };
  const answers = await Promise.all(Array.from({ length: count }, () => post(path, json, body, headers)));
  const statuses = answers.map(({ status }) => status);
  expect(statuses).toContain(202);
  const others = statuses.filter((status) => status !== 202 && status !== 503 && status !== 'cut off');
  expect(others).toEqual([]);
  const slowestMs = Math.max(...answers.map((answer) => answer.slowestMs));
  console.log(`${count} ${_name} at once: ${statuses.join(' ')}, /livez ${Math.round(slowestMs)} ms`);
  // How long /livez takes depends on all of them together; what is promised is that the server lives.
  expect(program.child.exitCode).toBeNull();
});
