import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test, vi } from 'vitest';
import { createSampleCatalog } from '../../src/samples/sample-catalog.ts';
import { type Program, root, startProgram } from '../support/program.ts';
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

/** No server answers at port 1. */
const environment = () => ({ DATA_DIR: dataDir, PORT: '1', MODEL: 'builtin' });

async function vitrine(...args: readonly string[]) {
  await using program = startProgram('src/cli.ts', environment(), args);
  const code = await program.ended;
  return { code, output: program.output };
}

type Server = AsyncDisposable & { readonly program: Program; readonly url: string };

async function startServer(
  entry = 'src/cli.ts',
  args: readonly string[] = ['serve'],
  settings: Readonly<Record<string, string>> = {},
): Promise<Server> {
  const program = startProgram(entry, { ...environment(), PORT: '0', ...settings }, args);
  const url = await until('the address of the server', () => /"url":"([^"]+)"/.exec(program.output)?.[1]);
  return { program, url, [Symbol.asyncDispose]: () => program[Symbol.asyncDispose]() };
}

/** Runs commands against a server. */
const commandsAt =
  (url: string) =>
  (...args: readonly string[]) =>
    vitrine(...args, '--server', url);

describe('index without a server', () => {
  test('does the work in its own process; a server finds the products later', async () => {
    const indexed = await vitrine('index', join(sample, 'images', 'mug'));
    expect(indexed.output).toContain('in this process');
    expect(indexed.output).toMatch(/12 of 12 indexed in .*, 0 failed/);
    expect(indexed.code).toBe(0);

    await using server = await startServer();
    const ask = commandsAt(server.url);
    const found = await ask('search', join(sample, 'images', 'mug', 'mug-003.png'), '-n', '4', '--json');
    const { hits } = JSON.parse(found.output);
    expect(hits[0]).toMatchObject({ product_id: 'mug-003' });
    expect(JSON.parse((await ask('stats', '--json')).output)).toMatchObject({
      completed: 12,
      total_pending: 0,
      dead: 0,
    });
  });

  test('ends with 1 and lists why, grouped by code', async () => {
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
      'elsewhere,file://host/x.png',
    ];
    await writeFile(join(folder, 'c.csv'), rows.join('\n'));
    const { code, output } = await vitrine('index', join(folder, 'c.csv'));
    expect(code).toBe(1);
    expect(output).toMatch(/0 of 7 indexed/);
    expect(output).toMatch(/image_corrupt: 1\n.*\n {2}line 3: /);
    expect(output).toMatch(/image_path_forbidden: 2\n/);
    expect(output).toMatch(/invalid_line: 2\n.*\n {2}line 7: it has no product_id/);
    for (const line of ['line 2', 'line 4', 'line 5', 'line 6', 'line 8'])
      expect(output).toContain(`  ${line}: `);
    expect(output).not.toContain('secret');
    expect(output).not.toContain(' at file:');
  });

  test('says so when jobs will be retried later, and does not wait for them', async () => {
    await using server = createServer((socket) => socket.destroy()).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    const port = typeof address === 'object' ? address?.port : undefined;
    await writeFile(join(dataDir, 'c.csv'), `product_id,image_url\nA,http://127.0.0.1:${port}/a.jpg\n`);
    const settings = { IMAGE_ALLOWED_HOSTS: '127.0.0.1', RETRY_BASE_MS: '600000' };
    await using program = startProgram('src/cli.ts', { ...environment(), ...settings }, [
      'index',
      join(dataDir, 'c.csv'),
    ]);
    expect(await program.ended).toBe(1);
    expect(program.output).toMatch(/0 of 1 indexed in .*, 0 failed/);
    expect(program.output).toContain('1 could not be indexed yet and will be retried later');
  });
});

describe('with a server', () => {
  test('index reads the whole catalog, and search filters by its fields', async () => {
    await using server = await startServer();
    const ask = commandsAt(server.url);
    const indexed = await ask('index', join(sample, 'catalog.csv'));
    expect(indexed.output).toContain(`at ${server.url}`);
    expect(indexed.output).toMatch(/96 of 96 indexed/);
    const filters = ['--category', 'bag', '--max-price', '90', '--json'];
    const { hits } = JSON.parse((await ask('search', '--product', 'MUG-001', ...filters)).output);
    expect(hits.length).toBeGreaterThan(0);
    for (const { payload } of hits) {
      expect(payload.category).toBe('bag');
      expect(payload.price).toBeLessThanOrEqual(90);
    }
    const byImage = await ask('search', join(sample, 'images', 'chair', 'chr-001.png'));
    expect(byImage.output).toMatch(/1\s+1\.000\s+image\s+CHR-001/);
    expect((await ask('workers')).output).toMatch(/idle|working/);
    expect((await ask('stats')).output).toMatch(/completed\s+96 /);
    expect(await server.program.stop()).toBe(0);
  });

  test('dead lists, exports, puts back and removes what failed; retry and cancel say what they refuse', async () => {
    await using server = await startServer('src/cli.ts', ['serve', '--no-worker']);
    const ask = commandsAt(server.url);
    const broken = join(dataDir, 'broken.jpg');
    await writeFile(broken, Buffer.from([0xff, 0xd8, 0xff, 0xe0, 1, 2, 3]));
    // In this process, so that nobody takes what is put back.
    expect((await vitrine('index', broken)).code).toBe(1);
    expect((await ask('dead', 'list')).output).toMatch(/broken {2,}main .*image_corrupt/);
    expect((await ask('dead', 'list', '--code', 'job_poison')).output).toBe('There are no dead letters.\n');

    const exported = await ask('dead', 'export');
    const [job, ...others] = exported.output
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    expect(job).toMatchObject({ product_id: 'broken', status: 'failed' });
    expect(others).toEqual([]);

    expect((await ask('retry', job.job_id)).output).toContain(`${job.job_id}  queued`);
    expect((await ask('dead', 'redrive', '--all')).output).toBe('0 put back in the queue\n');
    const cancelled = await ask('cancel', job.job_id);
    expect(cancelled).toMatchObject({ code: 0, output: `${job.job_id}  cancelled\n` });
    expect(await ask('retry', job.job_id)).toMatchObject({ code: 1 });

    expect((await vitrine('index', broken)).code).toBe(1);
    expect((await ask('dead', 'purge', '--code', 'image_corrupt')).output).toBe('1 removed\n');
    expect((await ask('dead', 'list')).output).toBe('There are no dead letters.\n');
  });

  test('a purge of two thousand ids is answered', async () => {
    await using server = await startServer('src/cli.ts', ['serve', '--no-worker']);
    const ids = Array.from({ length: 2_000 }, () => crypto.randomUUID());
    expect((await commandsAt(server.url)('dead', 'purge', ...ids)).output).toBe('0 removed\n');
  });

  test('pause keeps workers from claiming until resume', async () => {
    await using server = await startServer('src/cli.ts', ['serve', '--no-worker']);
    const ask = commandsAt(server.url);
    expect((await ask('pause')).output).toContain('Paused');
    expect((await ask('stats')).output).toContain('The queue is paused');
    expect((await ask('resume')).code).toBe(0);
    expect((await ask('stats')).output).not.toContain('paused');
    expect((await ask('workers')).output).toContain('No worker is alive');
  });

  test('doctor --smoke indexes, finds and deletes one picture', async () => {
    await using server = await startServer();
    const { code, output } = await commandsAt(server.url)('doctor', '--smoke');
    for (const step of ['server', 'index', 'search', 'delete'])
      expect(output).toMatch(new RegExp(`✓ ${step} `));
    expect(output).toContain('Everything works.');
    expect(code).toBe(0);
    const left = await fetch(`${server.url}/queue/stats`);
    expect(await left.json()).toMatchObject({ total_pending: 0, dead: 0 });
  });
});

describe('doctor', () => {
  test('looks at every part, and reports faulty settings by name', async () => {
    const { output } = await vitrine('doctor');
    for (const part of [
      '✓ node',
      '✓ data',
      '✓ thumbnails',
      '✓ images',
      '✓ queue',
      '✓ store',
      '✓ model     builtin',
    ])
      expect(output).toContain(part);
    await using program = startProgram('src/cli.ts', { ...environment(), BATCH_SIZE: 'many' }, ['doctor']);
    expect(await program.ended).toBe(1);
    expect(program.output).toContain('BATCH_SIZE must be a whole number');
    expect(program.output).not.toContain('many');
  });

  test('says what to do about a Redis and a Qdrant that are not there', async () => {
    const down = { REDIS_URL: 'redis://user:hunter2@127.0.0.1:1', QDRANT_URL: 'http://127.0.0.1:1' };
    await using program = startProgram('src/cli.ts', { ...environment(), ...down }, ['doctor']);
    expect(await program.ended).toBe(1);
    expect(program.output).toMatch(/✗ queue .*\n.*REDIS_URL/);
    expect(program.output).toMatch(/✗ store .*\n.*QDRANT_URL/);
    expect(program.output).not.toContain('hunter2');
  });

  test('--smoke without a server says so', async () => {
    const { code, output } = await vitrine('doctor', '--smoke');
    expect(code).toBe(1);
    expect(output).toMatch(/✗ server .*No Vitrine server answers at http:\/\/127\.0\.0\.1:1\./);
  });
});

describe('the API process', () => {
  /** Keeps the server from ending: it waits for the rest of this request for its grace period. */
  async function holdRequest(url: string): Promise<Socket> {
    const { port } = new URL(url);
    const socket = connect(Number(port), '127.0.0.1').on('error', () => {});
    await once(socket, 'connect');
    socket.write('POST /queue/enqueue HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n');
    socket.write('Content-Length: 1000\r\n\r\n{');
    // A later request on another connection is answered after this one has been seen.
    expect((await fetch(`${url}/livez`)).status).toBe(200);
    return socket;
  }

  test('also works when there is no Redis, as in a plain container', async () => {
    await using server = await startServer('src/main.ts', []);
    const indexed = await commandsAt(server.url)('index', join(sample, 'images', 'lamp'));
    expect(indexed.output).toMatch(/12 of 12 indexed/);
    expect(await server.program.stop()).toBe(0);
  });

  test('ends with 0 on SIGTERM while it still waits for Qdrant', async () => {
    await using server = await startServer('src/main.ts', [], { QDRANT_URL: 'http://127.0.0.1:1' });
    expect(await server.program.stop()).toBe(0);
  });

  test('ends at once when SIGINT follows SIGTERM', async () => {
    await using server = await startServer('src/main.ts', [], { SHUTDOWN_GRACE_MS: '120000' });
    const held = await holdRequest(server.url);
    const { child, ended } = server.program;
    child.kill('SIGTERM');
    await until('no more connections', async () =>
      (await fetch(`${server.url}/livez`).catch(() => null)) === null ? true : undefined,
    );
    expect(child.exitCode ?? child.signalCode).toBeNull();
    child.kill('SIGINT');
    expect(await ended).toBeNull();
    expect(child.signalCode).toBe('SIGINT');
    held.destroy();
  });

  test('drains when SIGTERM goes to its whole process group, launcher included', async () => {
    const { PATH = '', HOME = '' } = process.env;
    const settings = { ...environment(), PORT: '0', SHUTDOWN_GRACE_MS: '2000', MODELS_OFFLINE: 'true' };
    const child = spawn(process.execPath, [join(root, 'scripts/run.mjs'), 'src/main.ts'], {
      env: { PATH, HOME, ...settings },
      stdio: ['ignore', 'pipe', 'inherit'],
      // A process group of its own.
      detached: true,
    });
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    const ended = once(child, 'close');
    const url = await until('the address of the server', () => /"url":"([^"]+)"/.exec(output)?.[1]);
    const held = await holdRequest(url);
    process.kill(-(child.pid ?? 0), 'SIGTERM');
    await sleep(100);
    // As npm does, which passes on what it got.
    child.kill('SIGTERM');
    expect(await ended).toEqual([0, null]);
    expect(output).toContain('worker stopped');
    held.destroy();
  });
});
