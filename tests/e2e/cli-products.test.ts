import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { runCli } from '../../src/cli/run-cli.ts';
import { startServer } from '../../src/http/server.ts';
import { createWorker } from '../../workers/worker.ts';
import { createTempFolder, createTestContext } from '../support/context.ts';
import { drawImage } from '../support/images.ts';
import { createTestTerminal } from '../support/terminal.ts';

const stack = new AsyncDisposableStack();
let url: string;
let folder: string;
afterAll(() => stack.disposeAsync());

/** What a command that goes well prints. */
async function ask(...args: readonly string[]): Promise<string> {
  const terminal = createTestTerminal();
  const code = await runCli([...args, '--server', url], terminal);
  const output = terminal.out();
  expect([code, terminal.err()]).toEqual([0, '']);
  return output;
}
const askJson = async (...args: readonly string[]) => JSON.parse(await ask(...args, '--json'));

async function refusal(...args: readonly string[]): Promise<string> {
  const terminal = createTestTerminal();
  expect(await runCli([...args, '--server', url], terminal)).toBe(1);
  return terminal.err();
}

beforeAll(async () => {
  folder = stack.use(await createTempFolder()).path;
  const context = stack.use(await createTestContext({ PORT: '0', FACET_KEYS: 'wood' }));
  const server = await startServer(context);
  stack.defer(() => server.stop());
  url = server.url;
  const pictures = await Promise.all([1, 2, 3, 4].map((seed) => drawImage(seed)));
  await writeFile(join(folder, 'query.png'), pictures[0]!);
  const image = (at: number) => ({ image_base64: pictures[at]!.toString('base64') });
  const jobs = [
    { product_id: 'oak', ...image(0), name: 'Oak chair', category: 'chairs', price: 80, currency: 'EUR' },
    { product_id: 'elm', ...image(1), name: 'Elm chair', category: 'chairs', price: 120, tags: ['red'] },
    { product_id: 'lamp', ...image(2), name: 'Red lamp', category: 'lamps', brand: 'Lumen', price: 40 },
    { product_id: 'copy', ...image(2), name: 'Blue lamp', category: 'lamps', metadata: { wood: 'none' } },
    { product_id: 'oak', image_id: 'side', ...image(3), name: 'Oak chair', category: 'chairs', price: 80 },
  ];
  await fetch(`${url}/queue/enqueue/batch`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(jobs),
  });
  await createWorker(context).run({ once: true });
});

describe('vitrine search', () => {
  test('by words, by an image, by both, and by a product', async () => {
    const words = await ask('search', '--text', 'red lamp');
    expect(words).toMatch(/1 +\d+\.\d+ +words +lamp +main +Red lamp +lamps +40\.00/);
    expect(await ask('search', join(folder, 'query.png'))).toMatch(/1 +1\.000 +image +oak/);
    const both = ['search', join(folder, 'query.png'), '--text', 'red', '--weight', 'words=9'];
    expect(await ask(...both)).toMatch(/1 +0\.\d+ +image, words +(lamp|elm) /);
    const { hits } = await askJson('search', '--product', 'oak', '--exclude', 'elm');
    expect(hits.map((hit: { product_id: string }) => hit.product_id).toSorted()).toEqual(['copy', 'lamp']);
  });

  test('with every option', async () => {
    const ids = async (...args: readonly string[]) =>
      (await askJson('search', join(folder, 'query.png'), ...args)).hits.map(
        (hit: { product_id: string; image_id: string }) => `${hit.product_id} ${hit.image_id}`,
      );
    const all = await ids();
    expect(all).toHaveLength(4);
    expect(await ids('-n', '2', '--offset', '1')).toEqual(all.slice(1, 3));
    expect(await ids('--min-score', '0.999')).toEqual(['oak main']);
    expect(await ids('--every-image', '--category', 'chairs')).toHaveLength(3);
    expect(await ids('--currency', 'EUR')).toEqual(['oak main']);
    expect(await ids('--min-price', '50', '--max-price', '100')).toEqual(['oak main']);
    expect(await ids('--filter', '{"metadata":{"wood":{"exists":true}}}', '--category', 'lamps')).toEqual([
      'copy main',
    ]);
    expect((await ids('--diversify', '0.9')).toSorted()).toEqual(all.toSorted());
    expect(await ids('--crop', '0,0,1,1')).toEqual(all);
  });

  test('with facets, alone or next to the hits', async () => {
    const alone = await ask(
      'search',
      '-n',
      '0',
      '--facets',
      '--price-range',
      '..100',
      '--price-range',
      '100..',
    );
    expect(alone).toContain('4 products pass the filters');
    expect(alone).toMatch(/category +chairs +2\n +lamps +2\n/);
    expect(alone).toMatch(/wood +none +1\n/);
    expect(alone).toMatch(/price +\.\.100 +2\n +100\.\. +1\n/);
    const both = await ask('search', '--text', 'chair', '--category', 'chairs', '--facets');
    expect(both).toContain('Oak chair');
    expect(both).toContain('2 products pass the filters');
  });

  test('says what the server refuses', async () => {
    expect(await refusal('search', '--text', 'x', '--weight', 'words')).toContain('--weight words=2');
    expect(await refusal('search', '--text', 'x', '--weight', 'word=2')).toContain(
      'weights.word is not a known',
    );
    expect(await refusal('search', '--text', 'x', '--filter', '{"colour":1}')).toContain('filter.colour');
  });
});

describe('vitrine products', () => {
  test('list shows them page by page', async () => {
    const first = await ask('products', 'list', '-n', '3');
    const cursor = /--cursor (\S+)/.exec(first)![1]!;
    const second = await ask('products', 'list', '-n', '3', '--cursor', cursor);
    expect(second).not.toContain('--cursor');
    for (const id of ['oak', 'elm', 'lamp', 'copy'])
      expect(first + second).toMatch(new RegExp(`^${id} `, 'm'));
    expect(await ask('products', 'list', '--category', 'chairs', '--max-price', '90')).toMatch(
      /oak +2 +Oak chair +chairs +80\.00 EUR/,
    );
    expect(await ask('products', 'list', '--brand', 'Nobody')).toContain('no such product');
  });

  test('update changes and removes fields, and show shows them', async () => {
    const args = ['--price', '35.5', '--tag', 'sale', '--tag', 'new', '--metadata', '{"stock":4}'];
    const updated = await ask('products', 'update', 'lamp', ...args, '--unset', 'brand');
    expect(updated).toMatch(/price +35\.50\n/);
    expect(updated).toMatch(/tags +sale, new\n/);
    expect(updated).toContain('{"stock":4}');
    expect(updated).not.toContain('Lumen');
    expect(await ask('products', 'show', 'lamp')).toBe(updated);
    expect(await refusal('products', 'update', 'lamp')).toContain('At least one of name');
    expect(await refusal('products', 'show', 'nothing')).toContain('product_not_found');
  });

  test('show lists jobs that are still to come', async () => {
    const image_url = 'https://example.com/x.png';
    await fetch(`${url}/queue/enqueue`, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify({ product_id: 'oak', image_id: 'back', image_url, delay_seconds: 60 }),
    });
    const shown = await ask('products', 'show', 'oak');
    expect(shown).toMatch(/back +pending/);
    expect(shown).toMatch(/back +delayed/);
  });

  test('duplicates shows what several products share', async () => {
    expect(await ask('products', 'duplicates', '--threshold', '1')).toMatch(
      /1 +exact +(copy|lamp) +main +1\.000.*\n +(copy|lamp) +main +1\.000.*\n\n1 of 1 groups, among 5 images/,
    );
  });

  test('delete deletes one image, or whole products', async () => {
    expect(await ask('products', 'delete', 'oak', '--image', 'back')).toContain(
      'oak  0 images deleted, 1 jobs cancelled',
    );
    expect(await ask('products', 'delete', 'oak', '--image', 'side')).toContain('oak  1 images deleted');
    expect(await ask('products', 'delete', 'oak', 'elm')).toMatch(/oak {2}1 images.*\nelm {2}1 images/);
    expect(await ask('products', 'list')).not.toContain('oak');
    expect(await refusal('products', 'delete', 'lamp', 'copy', '--image', 'main')).toContain(
      'one product only',
    );
  });
});
