import { mkdir, mkdtemp, readdir, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { createSampleCatalog } from '../../scripts/sample-catalog.ts';
import { type Program, startProgram } from '../support/program.ts';
import { until } from '../support/until.ts';

// Each test runs several whole programs; the limit is only there so that a broken one ends.
vi.setConfig({ testTimeout: 240_000 });

let sample: string;
let dataDir: string;
beforeAll(async () => {
  sample = await mkdtemp(join(tmpdir(), 'vitrine-sample-'));
  await createSampleCatalog(sample);
});
afterAll(() => rm(sample, { recursive: true }));
beforeEach(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'vitrine-cli-'));
});
afterEach(() => rm(dataDir, { recursive: true }));

/** No server is found at port 1, so that commands work in their own process. */
const environment = () => ({ DATA_DIR: dataDir, PORT: '1', MODEL: 'builtin' });

async function vitrine(...args: readonly string[]) {
  await using program = startProgram('src/cli.ts', environment(), args);
  const code = await program.ended;
  return { code, output: program.output };
}

async function startServer(): Promise<{ readonly program: Program; readonly url: string }> {
  const program = startProgram('src/cli.ts', { ...environment(), PORT: '0' }, ['serve']);
  const url = await until('the address of the server', () => /"url":"([^"]+)"/.exec(program.output)?.[1]);
  return { program, url };
}

describe('without a server', () => {
  test('index does the work in its own process, and search finds products of the same kind', async () => {
    const indexed = await vitrine('index', join(sample, 'images', 'mug'));
    expect(indexed.output).toMatch(/12 of 12 indexed in .*, 0 failed/);
    expect(indexed.code).toBe(0);
    const lamps = await vitrine('index', join(sample, 'images', 'lamp'));
    expect(lamps.output).toMatch(/12 of 12 indexed/);

    const found = await vitrine('search', join(sample, 'images', 'mug', 'mug-003.png'), '-n', '4', '--json');
    const { hits } = JSON.parse(found.output);
    expect(hits.map((hit: { product_id: string }) => hit.product_id.slice(0, 4))).toEqual(
      Array(4).fill('mug-'),
    );
    expect(hits[0]).toMatchObject({ product_id: 'mug-003' });

    const stats = JSON.parse((await vitrine('stats', '--json')).output);
    expect(stats).toMatchObject({ completed: 24, total_pending: 0, dead: 0 });
  });

  test('index reads the whole catalog, and search filters by its fields', async () => {
    const indexed = await vitrine('index', join(sample, 'catalog.csv'));
    expect(indexed.code).toBe(0);
    const filters = ['--category', 'bag', '--max-price', '90', '--json'];
    const found = await vitrine('search', '--product', 'MUG-001', ...filters);
    const { hits } = JSON.parse(found.output);
    expect(hits.length).toBeGreaterThan(0);
    for (const { payload } of hits) {
      expect(payload.category).toBe('bag');
      expect(payload.price).toBeLessThanOrEqual(90);
    }
  });

  test('index ends with 1 and lists why, grouped by code', async () => {
    const folder = join(dataDir, 'feed');
    await mkdir(folder);
    await writeFile(join(dataDir, 'private.png'), 'secret');
    await symlink(join(dataDir, 'private.png'), join(folder, 'link.png'));
    await writeFile(join(folder, 'broken.jpg'), Buffer.from([0xff, 0xd8, 0xff, 0xe0, 1, 2, 3]));
    await writeFile(join(folder, 'note.txt'), 'hello');
    const rows = [
      'product_id,image_path',
      'missing,nothing.png',
      'broken,broken.jpg',
      'text,note.txt',
      'outside,../private.png',
      'linked,link.png',
      ',x.png',
    ];
    await writeFile(join(folder, 'c.csv'), rows.join('\n'));
    const { code, output } = await vitrine('index', join(folder, 'c.csv'));
    expect(code).toBe(1);
    expect(output).toMatch(/0 of 6 indexed/);
    expect(output).toMatch(/image_corrupt: 1\n.*\n {2}line 3: /);
    expect(output).toMatch(/image_path_forbidden: 2\n/);
    expect(output).toMatch(/invalid_line: 1\n.*\n {2}line 7: it has no product_id/);
    for (const line of ['line 2', 'line 4', 'line 5', 'line 6']) expect(output).toContain(`  ${line}: `);
    expect(output).not.toContain('secret');
    expect(output).not.toContain(' at file:');
  });

  test('dead lists, exports, puts back and removes what failed; retry and cancel say what they refuse', async () => {
    const broken = join(dataDir, 'broken.jpg');
    await writeFile(broken, Buffer.from([0xff, 0xd8, 0xff, 0xe0, 1, 2, 3]));
    expect((await vitrine('index', broken)).code).toBe(1);
    expect((await vitrine('dead', 'list')).output).toMatch(/broken {2,}main .*image_corrupt/);
    expect((await vitrine('dead', 'list', '--code', 'job_poison')).output).toBe(
      'The dead letter is empty.\n',
    );

    const exported = await vitrine('dead', 'export');
    const [job, ...others] = exported.output
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(job).toMatchObject({ product_id: 'broken', status: 'failed' });
    expect(others).toEqual([]);

    expect((await vitrine('retry', job.job_id)).output).toContain(`${job.job_id}  queued`);
    expect((await vitrine('dead', 'redrive', '--all')).output).toBe('0 put back in the queue\n');
    const cancelled = await vitrine('cancel', job.job_id);
    expect(cancelled).toMatchObject({ code: 0, output: `${job.job_id}  cancelled\n` });
    expect(await vitrine('retry', job.job_id)).toMatchObject({ code: 1 });

    expect((await vitrine('index', broken)).code).toBe(1);
    expect((await vitrine('dead', 'purge', '--code', 'image_corrupt')).output).toBe('1 removed\n');
    expect((await vitrine('dead', 'list')).output).toBe('The dead letter is empty.\n');
    expect(await vitrine('dead', 'purge')).toMatchObject({ code: 2 });
    expect((await vitrine('dead', 'exprot')).output).toContain('Did you mean `vitrine dead export`?');
  });

  test('pause keeps workers from claiming until resume', async () => {
    expect((await vitrine('pause')).output).toContain('Paused');
    expect((await vitrine('stats')).output).toContain('The queue is paused');
    expect((await vitrine('resume')).code).toBe(0);
    expect((await vitrine('stats')).output).not.toContain('paused');
  });

  test('doctor looks at every part, and tells faulty settings by name', async () => {
    const { output } = await vitrine('doctor');
    for (const part of ['✓ node', '✓ data', '✓ images', '✓ queue', '✓ store', '✓ model     builtin'])
      expect(output).toContain(part);
    await using program = startProgram('src/cli.ts', { ...environment(), BATCH_SIZE: 'many' }, ['doctor']);
    expect(await program.ended).toBe(1);
    expect(program.output).toContain('BATCH_SIZE must be a whole number');
    expect(program.output).not.toContain('many');
  });

  test('doctor says what to do about a Redis and a Qdrant that are not there', async () => {
    const away = { REDIS_URL: 'redis://user:hunter2@127.0.0.1:1', QDRANT_URL: 'http://127.0.0.1:1' };
    await using program = startProgram('src/cli.ts', { ...environment(), ...away }, ['doctor']);
    expect(await program.ended).toBe(1);
    expect(program.output).toMatch(/✗ queue .*\n.*REDIS_URL/);
    expect(program.output).toMatch(/✗ store .*\n.*QDRANT_URL/);
    expect(program.output).not.toContain('hunter2');
  });
});

describe('with a server', () => {
  test('index, search, stats and workers speak to it; it drains when it is stopped', async () => {
    const { program, url } = await startServer();
    await using _server = program;
    const indexed = await vitrine('index', join(sample, 'images', 'chair'), '--server', url);
    expect(indexed.output).toContain(`at ${url}`);
    expect(indexed.output).toMatch(/12 of 12 indexed/);
    const found = await vitrine('search', join(sample, 'images', 'chair', 'chr-001.png'), '--server', url);
    expect(found.output).toMatch(/1\s+1\.000\s+chr-001/);
    expect((await vitrine('workers', '--server', url)).output).toMatch(/idle|working/);
    expect((await vitrine('stats', '--server', url)).output).toMatch(/completed\s+12 /);
    expect(await program.stop()).toBe(0);
    expect((await vitrine('workers')).output).toContain('No worker is alive');
  });

  test('one that is named and not there is told as such', async () => {
    const { code, output } = await vitrine('stats', '--server', 'http://127.0.0.1:1');
    expect(code).toBe(1);
    expect(output).toContain('No Vitrine server answers at http://127.0.0.1:1.');
    expect(await readdir(dataDir)).toEqual([]);
  });
});
