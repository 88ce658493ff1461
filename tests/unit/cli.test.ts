import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import type { z } from '@hono/zod-openapi';
import { describe, expect, test } from 'vitest';
import type { FeedEntry } from '../../src/catalog/feed.ts';
import type { Client, ClientRequest } from '../../src/cli/client.ts';
import { createCommands } from '../../src/cli/commands.ts';
import { indexCatalog } from '../../src/cli/index/index-catalog.ts';
import { withRetries } from '../../src/cli/index/with-retries.ts';
import { runCli } from '../../src/cli/run-cli.ts';
import { toTable } from '../../src/cli/table.ts';
import { VitrineError } from '../../src/errors/vitrine-error.ts';
import { createTempFolder } from '../support/context.ts';
import { root } from '../support/program.ts';
import { createTestTerminal } from '../support/terminal.ts';

async function run(args: readonly string[], environment: Readonly<Record<string, string>> = { PORT: '1' }) {
  const terminal = createTestTerminal(environment);
  const code = await runCli(args, terminal);
  return { code, out: terminal.out(), err: terminal.err() };
}

describe('the command line', () => {
  test.each([
    [['serach', 'x'], "unknown command 'serach'\n(Did you mean search?)"],
    [['qqqqqq'], "unknown command 'qqqqqq'\n"],
    [['--frobnicate'], "unknown option '--frobnicate'\n"],
    [['stats', '--serve', 'x'], "unknown option '--serve'\n(Did you mean --server?)"],
    [['stats', '--server'], "option '--server <url>' argument missing"],
    [['stats', 'x'], "too many arguments for 'stats'"],
    [['index'], "missing required argument 'path'"],
    [['index', 'x', '--decimal', 'dot'], 'Allowed choices are point, comma.'],
    [['search'], 'needs [image], --product or --text'],
    [['search', 'a.jpg', '-n', '1001'], 'It must be a whole number from 0 to 1000.'],
    [['search', 'a.jpg', '--crop', '0,0,1'], 'It must be x,y,width,height'],
    [['search', 'a.jpg', '--price-range', '5-10'], 'It must be from..to'],
    [['search', 'a.jpg', '--filter', '[1]'], 'It must be a JSON object.'],
    [['products', 'lst'], "unknown command 'lst'\n(Did you mean list?)"],
    [['products', 'show'], "missing required argument 'product_id'"],
    [['products', 'update', 'x', '--price', 'free'], 'It must be a number.'],
    [['search', 'a.jpg', '--min-price', 'much'], 'It must be a number.'],
    [['dead', 'exprot'], "unknown command 'exprot'\n(Did you mean export?)"],
    [['dead', 'purge'], 'needs exactly one of [job_id...], --code and --all'],
    [['dead', 'redrive', 'id', '--all'], 'needs exactly one of [job_id...], --code and --all'],
    [['models', 'pull'], "missing required argument 'model'"],
  ])('answers %j with a sentence and exit code 2', async (args, sentence) => {
    const { code, out, err } = await run(args);
    expect(code).toBe(2);
    expect(out).toBe('');
    expect(err).toContain(sentence);
    expect(err).toContain('vitrine --help');
  });

  test('without arguments shows its help', async () => {
    const { code, out } = await run([]);
    expect(code).toBe(0);
    expect(out).toContain('Usage: vitrine');
    expect(await run(['--help'])).toEqual({ code: 0, out, err: '' });
  });

  test('shows help for every command, with examples, in lines that fit', async () => {
    const { commands } = createCommands(createTestTerminal(), () => {});
    expect(commands.length).toBeGreaterThan(10);
    for (const command of commands) {
      const { code, out } = await run([command.name(), '--help']);
      expect(code).toBe(0);
      expect(out).toContain(`Usage: vitrine ${command.name()}`);
      expect(out).toMatch(new RegExp(`Examples:\n  vitrine ${command.name()}`));
      for (const line of out.split('\n')) expect(line.length).toBeLessThanOrEqual(100);
    }
  });

  test('prints a failure in its sentence with the suggestion, without a stack or colours, and exit code 1', async () => {
    expect(await run(['index', 'no-such.csv'])).toEqual({
      code: 1,
      out: '',
      err: 'There is nothing at no-such.csv.\nCheck the path; a relative one starts from the current folder. (invalid_request)\n',
    });
  });

  test.each([
    ['stats'],
    ['workers'],
    ['pause'],
    ['resume'],
    ['cancel', 'id'],
    ['retry', 'id'],
    ['search', '--product', 'id'],
    ['search', '-n', '0', '--facets'],
    ['products', 'list'],
    ['products', 'show', 'id'],
    ['products', 'update', 'id', '--price', '1'],
    ['products', 'delete', 'id'],
    ['products', 'duplicates'],
    ['dead', 'list'],
    ['dead', 'redrive', '--all'],
    ['dead', 'purge', '--code', 'job_poison'],
    ['dead', 'export'],
  ])('%s %s says that no server answers, and opens nothing', async (...args) => {
    await using folder = await createTempFolder();
    const dataDir = join(folder.path, 'data');
    const { code, out, err } = await run(args, { PORT: '1', DATA_DIR: dataDir });
    expect(code).toBe(1);
    expect(out).toBe('');
    expect(err).toBe(
      'No Vitrine server answers at http://127.0.0.1:1.\nStart one with `vitrine serve`, or name another one with --server. (server_unreachable)\n',
    );
    expect(existsSync(dataDir)).toBe(false);
  });

  test('leaves a command that waits for an answer when it is interrupted', async () => {
    await using server = createServer((request, response) => {
      if (request.url === '/livez') response.end('{"status":"ok"}');
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const stop = new AbortController();
    const terminal = { ...createTestTerminal({ PORT: String(port) }), signal: stop.signal };
    const running = runCli(['stats'], terminal);
    await once(server, 'request');
    stop.abort();
    expect(await running).toBe(130);
    server.closeAllConnections();
  });
});

test.each([
  [['dead', 'purge', 'a', 'b'], 'DELETE /queue/dead', { ids: ['a', 'b'] }],
  [['dead', 'purge', '--code', 'job_poison'], 'DELETE /queue/dead', { code: 'job_poison' }],
  [['dead', 'purge', '--all'], 'DELETE /queue/dead', { all: true }],
  [['dead', 'redrive', 'a'], 'POST /queue/dead/redrive', { ids: ['a'] }],
])('%j sends its selection in the body', async (args, route, expected) => {
  const requests: { readonly route: string; readonly body: unknown }[] = [];
  await using server = createServer(async (request, response) => {
    if (request.url === '/livez') return response.end('{"status":"ok"}');
    const body = Buffer.concat(await Array.fromAsync(request)).toString();
    requests.push({ route: `${request.method} ${request.url}`, body: JSON.parse(body) });
    return response.end('{"removed":2,"redriven":2}');
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  expect(await run(args, { PORT: String(port) })).toMatchObject({ code: 0 });
  expect(requests).toEqual([{ route, body: expected }]);
  server.closeAllConnections();
});

test('an answer of another shape is said to be one', async () => {
  await using server = createServer((_, response) => response.end('{"status":"ok"}')).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  expect(await run(['stats'], { PORT: String(port) })).toEqual({
    code: 1,
    out: '',
    err: 'The answer of the server has another shape.\nUse the command of the same version as the server. (internal_error)\n',
  });
  server.closeAllConnections();
});

test.each([[['--help']], [['stats', '--server', 'http://127.0.0.1:1']]])(
  '%j loads neither zod nor fetch, which take longer than all else',
  (args) => {
    const report = `import { registerHooks } from 'node:module';
      const files = [];
      registerHooks({ load: (url, context, next) => (files.push(url), next(url, context)) });
      process.on('exit', () => console.error([...files, ...process.moduleLoadList].join('\\n')));`;
    const hook = `data:text/javascript,${encodeURIComponent(report)}`;
    const command = ['--import', hook, join(root, 'src', 'vitrine.mjs'), ...args];
    const { stderr } = spawnSync(process.execPath, command, { encoding: 'utf8' });
    expect(stderr).toContain('src/cli/commands.ts');
    expect(stderr).not.toMatch(/node_modules\/(@hono|zod|undici)|deps\/undici\/undici/);
  },
);

test('a HOST that is none is named', async () => {
  const { code, err } = await run(['stats'], { HOST: 'a b', PORT: '1' });
  expect(code).toBe(1);
  expect(err).toContain('HOST and PORT must be a host and its port.');
});

/** A server's answers, by the path of the request. */
function createFakeClient(answer: (path: string, request: ClientRequest) => unknown): Client {
  return {
    address: 'http://fake',
    async call<S extends z.ZodType>(path: string, request: ClientRequest = {}) {
      return answer(path, request) as z.infer<S>;
    },
    open: () => Promise.reject(new Error('not used')),
  };
}

function createCatalog(base64: string, count: number) {
  return {
    folder: '/catalog',
    async *entries(): AsyncGenerator<FeedEntry> {
      for (let n = 1; n <= count; n++) {
        const image = { kind: 'inline', base64 } as const;
        yield { where: `line ${n}`, image: { productId: `P${n}`, imageId: 'main', image, product: {} } };
      }
    },
  };
}

const acceptAll = (request: ClientRequest, toId: () => string) => {
  const jobs = request.body as readonly unknown[];
  return { accepted: jobs.length, job_ids: jobs.map(toId), rejected: [] };
};

describe('indexing a catalog', () => {
  const signal = new AbortController().signal;

  test('ends when only jobs that are retried much later are left, and counts them', async () => {
    let id = 0;
    const availableAt = new Date(Date.now() + 600_000).toISOString();
    const client = createFakeClient((path, request) => {
      if (path === '/queue/enqueue/batch') return acceptAll(request, () => `${id++}`);
      return path === '/queue/status/0'
        ? { status: 'completed' }
        : { status: 'delayed', available_at: availableAt };
    });
    const catalog = createCatalog('x', 3);
    const progress = await indexCatalog({ catalog, client, sharedFolders: [], signal, onProgress() {} });
    expect(progress).toMatchObject({ total: 3, completed: 1, failures: [], retriedLater: 2 });
  });

  test('sends inline images while earlier ones are worked on, with a bound on their bytes', async () => {
    const open = new Set<string>();
    const openAtSend: number[] = [];
    let endedAt = 0;
    let id = 0;
    const client = createFakeClient((path, request) => {
      if (path === '/queue/enqueue/batch') {
        openAtSend.push(open.size);
        return acceptAll(request, () => {
          open.add(`${id}`);
          return `${id++}`;
        });
      }
      // One job ends at a time, in order.
      const asked = path.replace('/queue/status/', '');
      const [first] = open;
      if (asked !== first || performance.now() - endedAt < 20) return { status: 'queued' };
      endedAt = performance.now();
      open.delete(asked);
      return { status: 'completed' };
    });
    const catalog = createCatalog('x'.repeat(7_900_000), 16);
    const progress = await indexCatalog({ catalog, client, sharedFolders: [], signal, onProgress() {} });
    expect(progress).toMatchObject({ total: 16, completed: 16, failures: [] });
    expect(Math.max(...openAtSend)).toBeLessThanOrEqual(8);
    expect(openAtSend.slice(9).every((count) => count > 0)).toBe(true);
  });
});

describe('a client with retries', () => {
  test('repeats a call that may succeed later, and no other', async () => {
    const codes = ['server_unreachable', 'queue_unavailable'] as const;
    let calls = 0;
    const flaky = createFakeClient(() => {
      const code = codes[calls++];
      if (code !== undefined) throw new VitrineError(code, 'Not now.');
      return { paused: true };
    });
    const { signal } = new AbortController();
    expect(await withRetries(flaky, signal).call('/x')).toEqual({ paused: true });
    expect(calls).toBe(3);

    let refusals = 0;
    const refusing = createFakeClient(() => {
      refusals += 1;
      throw new VitrineError('job_not_found', 'There is none.');
    });
    await expect(withRetries(refusing, signal).call('/x')).rejects.toMatchObject({
      code: 'job_not_found',
    });
    expect(refusals).toBe(1);
  });
});

test('a table cuts long values, aligns numbers and lets no control characters through', () => {
  const columns = [
    { title: 'name', maxWidth: 8 },
    { title: 'n', align: 'right' },
  ] as const;
  const lines = toTable(columns, [
    ['a\u001b[31mred\u001b[0m\nb', '7'],
    ['a very long name', '123'],
  ]).split('\n');
  expect(lines).toEqual(['name        n', '────────  ───', 'ared b      7', 'a very …  123']);
});
