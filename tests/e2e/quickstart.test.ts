import { once } from 'node:events';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test, vi } from 'vitest';
import { createSampleCatalog } from '../../src/samples/sample-catalog.ts';
import { startProgram } from '../support/program.ts';
import { until } from '../support/until.ts';

// Each test runs several whole programs; the limit is only there so that a broken one ends.
vi.setConfig({ testTimeout: 240_000 });

let dataDir: string;
beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'vitrine-quickstart-'));
});
afterEach(() => rm(dataDir, { recursive: true }));

const start = (environment: Readonly<Record<string, string>>, ...args: readonly string[]) =>
  startProgram('scripts/quickstart.ts', { DATA_DIR: dataDir, MODEL: 'builtin', ...environment }, args);

/** The categories in the table of hits. */
const toCategories = (output: string) =>
  [...output.matchAll(/^\d+ .* main .* (\S+) +[\d.]+ EUR$/gm)].map((match) => match[1]);

test('with --once it indexes the sample, finds products of its own kind, and ends; also again', async () => {
  for (const _run of ['first', 'second']) {
    await using program = start({}, '--once');
    expect(await program.ended).toBe(0);
    expect(program.output).toContain('Drew 96 sample products');
    expect(program.output).toMatch(/96 of 96 indexed in .*, 0 failed/);
    expect(toCategories(program.output)).toEqual(Array(8).fill('mug'));
  }
});

test('it leaves the server running with its addresses, until it is stopped', async () => {
  await using program = start({ PORT: '0' });
  const url = await until('the addresses', () => /Vitrine runs at (\S+) until/.exec(program.output)?.[1]);
  expect((await fetch(`${url}/docs`)).status).toBe(200);
  const search = await fetch(`${url}/search`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ product_id: 'CHR-001', limit: 5 }),
  });
  const { hits } = (await search.json()) as { hits: { payload: { category: string } }[] };
  expect(hits.map((hit) => hit.payload.category)).toEqual(Array(5).fill('chair'));
  expect(await program.stop()).toBe(0);
});

test('a catalog with a bad image ends with 1 and says why; the good ones can be found', async () => {
  await createSampleCatalog(join(dataDir, 'drawn'));
  const catalog = join(dataDir, 'drawn', 'mine.csv');
  const rows = ['product_id,category,price,currency,image_path'];
  for (const n of [1, 2, 3])
    rows.push(`M-${n},mug,7.00,EUR,images/mug/mug-00${n === 2 ? '2.jpg' : `${n}.png`}`);
  await writeFile(catalog, [...rows, 'X,mug,7.00,EUR,nothing.png'].join('\n'));
  await using program = start({}, '--once', '--catalog', catalog);
  expect(await program.ended).toBe(1);
  expect(program.output).toMatch(/3 of 4 indexed/);
  expect(program.output).toMatch(/image_not_found: 1/);
  expect(toCategories(program.output)).toEqual(['mug', 'mug']);
});

test.each([
  [['--catalog', 'no-such.csv'], 1, 'There is nothing at no-such.csv.'],
  [['--frobnicate'], 2, "Unknown option '--frobnicate'"],
])('%j fails in a sentence', async (args, code, sentence) => {
  await using program = start({}, '--once', ...args);
  expect(await program.ended).toBe(code);
  expect(program.output).toContain(sentence);
  expect(program.output).not.toContain('at file:');
});

test('a port that is taken is reported, with what to do', async () => {
  await using server = createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  await using program = start({ PORT: String(port) });
  expect(await program.ended).toBe(1);
  expect(program.output).toContain(`Port ${port} on 127.0.0.1 is used by another program.`);
  expect(program.output).toContain('PORT');
});
