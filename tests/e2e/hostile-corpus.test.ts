import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { createServer as createHttpServer } from 'node:http';
import { type AddressInfo, connect, createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, test, vi } from 'vitest';
import { toForbiddenUrls } from '../fixtures/hostile/addresses.ts';
import { HOSTILE_IMAGES } from '../fixtures/hostile/images.ts';
import { HOSTILE_BYTES, HOSTILE_REQUESTS } from '../fixtures/hostile/requests.ts';
import { HOSTILE_SERVERS } from '../fixtures/hostile/servers.ts';
import { createTempFolder } from '../support/context.ts';
import { drawImage } from '../support/images.ts';
import { watchLivez } from '../support/livez-watch.ts';
import { type Program, root, startProgram } from '../support/program.ts';
import { startRedis, whyNoRedis } from '../support/redis-server.ts';
import { until } from '../support/until.ts';

vi.setConfig({ testTimeout: 300_000 });

/** Promised is a second; other programs work on this machine too. */
const LIVEZ_MS = 3 * 1_000;
const INNOCENTS = 60;
/** Sent at the same time. */
const SENDERS = 6;

/** What becomes of an input: the code that it is refused with, at once or as a job, or `completed`. */
type Outcomes = Record<string, string | number>;

const trust = join(root, 'tests/fixtures/hostile/localhost-cert.pem');
const lyingDns = ['--import', join(root, 'tests/support/lying-dns.ts')];

/** Sends every hostile input, innocent images in between, to a real API whose jobs a real worker does. */
async function runCorpus(queue: Readonly<Record<string, string>>): Promise<void> {
  await using stack = new AsyncDisposableStack();
  const folder = stack.use(await createTempFolder());
  const files = await makeFiles(folder.path);
  const forbidden = stack.use(await listenWhereForbidden());
  const environment = {
    ...queue,
    DATA_DIR: folder.path,
    MODEL: 'builtin',
    PORT: '0',
    IMAGE_ROOTS: files.root,
    IMAGE_ALLOWED_HOSTS: '127.0.0.1',
    // Long enough for a busy machine to tell a failure from a server that says nothing.
    IMAGE_TIMEOUT_MS: '9000',
    WEBHOOK_SECRETS: `whsec_${Buffer.alloc(32, 1).toString('base64')}`,
    NODE_EXTRA_CA_CERTS: trust,
  };
  const start = (entry: string) =>
    stack.use(startProgram(entry, environment, [], { nodeArgs: [...lyingDns, '--max-old-space-size=1024'] }));
  const api = start('src/main.ts');
  const worker = start('workers/main.ts');
  const url = await until('the address', () => /"url":"([^"]+)"/.exec(api.output)?.[1]);
  await until('readiness', async () => ((await fetch(`${url}/readyz`)).ok ? true : undefined));
  const livez = stack.use(watchLivez(url));

  const expected: Outcomes = {};
  const outcomes: Outcomes = {};
  const jobs = new Map<string, string>();
  const tasks: (() => Promise<void>)[] = [];
  /** Sends it once it is its turn; an answer 202 says which job will have the outcome. */
  const plan = (name: string, code: string | number, send: () => Promise<Answer>) => {
    expect(expected, 'every name is used once').not.toHaveProperty([name]);
    expected[name] = code;
    tasks.push(async () => {
      const answer = await send();
      if (answer.status === 202) jobs.set(name, JSON.parse(answer.text).job_id);
      else outcomes[name] = toOutcome(answer);
    });
  };
  const once = { retry: { attempts: 1 } };
  const enqueue = (name: string, code: string, fields: object) =>
    plan(name, code, () =>
      postJson(`${url}/queue/enqueue`, { product_id: name.slice(0, 500), ...once, ...fields }),
    );

  for (const { name, code, make } of HOSTILE_IMAGES) {
    plan(`image: ${name}`, code ?? 'completed', async () => {
      const form = new FormData();
      form.set('product_id', name);
      form.set('retry', JSON.stringify(once.retry));
      form.set('image', new Blob([new Uint8Array(await make())]), 'image');
      return read(await fetch(`${url}/queue/enqueue`, { method: 'POST', body: form }));
    });
  }
  for (const { name, code, needs, start: startServer } of HOSTILE_SERVERS) {
    if (needs === 'small limit') continue;
    const server = stack.use(await startServer());
    // What they serve when they do is a single pixel.
    enqueue(`server: ${name}`, code ?? 'image_too_small', { image_url: server.url });
  }
  const redirector = stack.use(await startRedirector());
  // Not all resolvers know `localhost.`.
  const addresses = toForbiddenUrls(forbidden.port).filter((address) => !address.includes('localhost.:'));
  for (const image_url of addresses) {
    const code = 'image_address_blocked';
    enqueue(`address: ${image_url}`, code, { image_url });
    enqueue(`redirect: ${image_url}`, code, {
      image_url: `${redirector.url}/?${encodeURIComponent(image_url)}`,
    });
    plan(`search: ${image_url}`, code, () => postJson(`${url}/search`, { image_url }));
  }
  for (const [path, code] of files.cases) enqueue(`path: ${path}`, code, { image_path: path });
  for (const { name, code, path, ...request } of HOSTILE_REQUESTS) {
    plan(`request: ${name}`, code, async () => read(await fetch(url + path, request)));
  }
  for (const { name, code, bytes } of HOSTILE_BYTES) {
    plan(`bytes: ${name}`, code, () => exchange(url, bytes));
  }
  const innocents = await Promise.all(Array.from({ length: INNOCENTS }, (_, seed) => drawImage(seed)));
  const callbacks = addresses;
  for (const [at, image] of innocents.entries()) {
    const callback = callbacks[at] === undefined ? {} : { callback_url: callbacks[at] };
    enqueue(`innocent ${at}`, 'completed', { image_base64: image.toString('base64'), ...callback });
  }

  await runAll(interleave(tasks), SENDERS);
  // A host that asks for a hundred years' rest is left alone for now.
  const waiting = Object.values(expected).filter((code) => code === 'image_host_busy').length;
  await until(
    'the end of all jobs',
    async () => {
      const { total_pending } = await getJson(`${url}/queue/stats`);
      return total_pending === waiting ? true : undefined;
    },
    240_000,
  );
  for (const [name, id] of jobs) {
    const { status, last_error } = await getJson(`${url}/queue/jobs/${id}`);
    outcomes[name] = status === 'completed' ? status : (last_error?.code ?? status);
  }
  const { deliveries } = await getJson(`${url}/webhooks/deliveries?limit=1000`);

  expect(outcomes).toEqual(expected);
  expect(Object.keys(expected).length - INNOCENTS).toBeGreaterThan(200);
  expect(deliveries.map(({ last_answer }: Delivery) => last_answer?.code)).toEqual(
    callbacks.map(() => 'webhook_address_blocked'),
  );
  expect(forbidden.connections()).toBe(0);
  expect(await livez.readSlowestMs()).toBeLessThan(LIVEZ_MS);
  expect(await stopAll([api, worker])).toEqual([0, 0]);
}

interface Delivery {
  readonly last_answer: { readonly code: string } | null;
}
interface Answer {
  readonly status: number;
  readonly text: string;
}

const read = async (response: Response): Promise<Answer> => ({
  status: response.status,
  text: await response.text(),
});

const postJson = async (url: string, body: unknown): Promise<Answer> =>
  read(
    await fetch(url, {
      method: 'POST',
      headers: { 'Content-Type': 'application/json' },
      body: JSON.stringify(body),
    }),
  );

const getJson = async (url: string) => JSON.parse((await read(await fetch(url))).text);

/** The code of a refusal; the status where there is none. */
const toOutcome = ({ status, text }: Answer): string | number => /"code":"(\w+)"/.exec(text)?.[1] ?? status;

/** Writes the bytes and reads until the server closes. */
async function exchange(url: string, bytes: string): Promise<Answer> {
  const { hostname, port } = new URL(url);
  const socket = connect(Number(port), hostname).setEncoding('utf8');
  let text = '';
  socket.on('data', (part: string) => {
    text += part;
  });
  socket.on('error', () => undefined);
  socket.write(bytes, 'latin1');
  await once(socket, 'close');
  return { status: Number(/^HTTP\/1\.1 (\d+)/.exec(text)?.[1]), text };
}

/** The tasks in turns from the ends and the middle: the kinds of inputs, listed one after the other, get mixed. */
function interleave<T>(tasks: readonly T[]): readonly T[] {
  const step = 37;
  return Array.from({ length: step }, (_, from) => tasks.filter((_task, at) => at % step === from)).flat();
}

async function runAll(tasks: readonly (() => Promise<void>)[], atOnce: number): Promise<void> {
  const left = tasks.values();
  await Promise.all(
    Array.from({ length: atOnce }, async () => {
      for (const task of left) await task();
    }),
  );
}

const stopAll = (programs: readonly Program[]) => Promise.all(programs.map((program) => program.stop()));

/** Listens on every address of this machine, and counts who comes. */
async function listenWhereForbidden() {
  let connections = 0;
  const server = createServer((socket) => {
    connections++;
    socket.destroy();
  });
  await new Promise<void>((resolve) => server.listen(0, '::', resolve));
  const { port } = server.address() as AddressInfo;
  // It does count: a test that can't fail would prove nothing.
  const own = connect(port, '127.0.0.2');
  await once(own, 'close');
  expect(connections).toBe(1);
  connections = 0;
  return {
    port,
    connections: () => connections,
    [Symbol.asyncDispose]: async () => void server.close(),
  };
}

/** Redirects to the address in the query. */
async function startRedirector() {
  const server = createHttpServer((request, response) => {
    const location = decodeURIComponent(request.url!.slice(2));
    // A header holds ASCII alone.
    const isAscii = /^[\x20-\x7e]*$/.test(location);
    response.writeHead(302, { location: isAscii ? location : encodeURI(location) }).end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      server.close();
    },
  };
}

/** A folder that images may be read from, and what in it, or next to it, may not. */
async function makeFiles(folder: string) {
  const openFolder = join(folder, 'open');
  await mkdir(join(openFolder, 'inner'), { recursive: true });
  const secret = join(folder, 'secret.png');
  await writeFile(secret, await drawImage(1));
  await writeFile(join(openFolder, 'notes.txt'), 'not an image');
  await symlink(secret, join(openFolder, 'link.png'));
  await symlink(folder, join(openFolder, 'linked'));
  execFileSync('mkfifo', [join(openFolder, 'fifo.png')]);
  const cases: readonly (readonly [string, string])[] = [
    [secret, 'image_path_forbidden'],
    ['../secret.png', 'image_path_forbidden'],
    ['inner/../../secret.png', 'image_path_forbidden'],
    ['link.png', 'image_path_forbidden'],
    ['linked/secret.png', 'image_path_forbidden'],
    ['inner', 'image_path_forbidden'],
    ['fifo.png', 'image_path_forbidden'],
    ['/dev/zero', 'image_path_forbidden'],
    ['/proc/self/environ', 'image_path_forbidden'],
    ['/etc/passwd', 'image_path_forbidden'],
    ['a\0.png', 'image_path_forbidden'],
    ['nothing.png', 'image_not_found'],
    ['notes.txt', 'image_unsupported'],
  ];
  return { root: openFolder, cases };
}

const reason = whyNoRedis();
if (reason !== null) console.log(`the hostile corpus on Redis: skipped, ${reason}`);

describe('every hostile input ends with its code, and nothing else is lost', () => {
  test('with the queue in SQLite', () => runCorpus({}));

  test.skipIf(reason !== null)('with the queue in Redis', async () => {
    await using redis = await startRedis();
    await runCorpus({ REDIS_URL: redis.url });
  });
});
