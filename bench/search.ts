import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { pino } from 'pino';
import { toPointId } from '../src/catalog/product-image.ts';
import { parseConfig } from '../src/config/config.ts';
import { type Context, createContext } from '../src/context.ts';
import { startServer } from '../src/http/server.ts';
import { createSampleCatalog } from '../src/samples/sample-catalog.ts';
import { createQueryVectors } from '../src/search/query-vectors.ts';
import type { Point, QueryPart, SearchRequest } from '../src/vectors/port.ts';
import { createTempFolder } from '../tests/support/context.ts';
import { type Program, startProgram } from '../tests/support/program.ts';
import { until } from '../tests/support/until.ts';

const CATEGORIES = ['mug', 'chair', 'lamp', 'bag', 'shoe', 'bottle', 'watch', 't-shirt'];
const COLORS = ['red', 'blue', 'green', 'yellow', 'orange', 'purple', 'pink', 'teal', 'brown', 'navy'];
/** So many jobs wait at least while indexing runs. */
const BACKLOG = 500;

/**
 * What the HTTP API adds to a search, compared with calling the store directly, in turns, with client and server in this
 * process; and how much longer a search with an image takes while a worker indexes images, in turns with a paused queue,
 * with the server and the worker as processes of their own, or as one. On SQLite, or on Qdrant with QDRANT_URL.
 */
export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      points: { type: 'string', default: '10000' },
      searches: { type: 'string', default: '200' },
      rounds: { type: 'string', default: '4' },
      'one-process': { type: 'boolean', default: false },
    },
  });
  const [points, searches, rounds] = [values.points, values.searches, values.rounds].map(Number) as [
    number,
    number,
    number,
  ];
  await using folder = await createTempFolder();
  const pictures = dirname((await createSampleCatalog(join(folder.path, 'pictures'))).csv);
  const environment = {
    DATA_DIR: folder.path,
    MODEL: 'builtin',
    LOG_LEVEL: 'error',
    IMAGE_ROOTS: pictures,
    ALLOW_FLUSH: 'true',
    PORT: '0',
    QDRANT_COLLECTION: `bench-${randomBytes(6).toString('hex')}`,
    ...(process.env['QDRANT_URL'] && { QDRANT_URL: process.env['QDRANT_URL'] }),
  };
  const logger = pino({ level: 'silent' });
  await using context = await createContext(parseConfig(environment), { logger });
  await fill(context, points);
  const picture = await readFile(join(pictures, 'images/lamp/lmp-002.jpg'));
  const store = environment.QDRANT_URL === undefined ? 'SQLite' : 'Qdrant';
  console.log(
    `${points} points of ${context.embedder.model.id} in ${store}; medians of ${searches} searches each\n`,
  );

  const inProcess = await startServer(context);
  console.table(await compareWithStore({ context, url: inProcess.url, picture, searches, points }));
  await inProcess.stop();

  const isOneProcess = values['one-process'];
  const serve = ['serve', isOneProcess ? '--worker' : '--no-worker'];
  await using server = startProgram('src/cli.ts', { ...environment, LOG_LEVEL: 'info' }, serve);
  const url = await untilListening(server);
  await using _worker = isOneProcess ? null : startProgram('src/cli.ts', environment, ['worker']);
  try {
    await measureWhileIndexing({ url, picture, searches, rounds });
  } catch (error) {
    console.error(server.output);
    throw error;
  }
}

/** Products with random vectors: how near they are to each other doesn't change how long a search takes. */
async function fill({ embedder, store }: Context, count: number): Promise<void> {
  const model = await embedder.start();
  await store.ensureCollection(model);
  for (let first = 0; first < count; first += 250) {
    const batch = Array.from({ length: Math.min(250, count - first) }, (_, at) =>
      toPoint(first + at, model.dimension),
    );
    await store.upsert(batch);
  }
}

function toPoint(number: number, dimension: number): Point {
  const productId = `p${number}`;
  const category = CATEGORIES[number % CATEGORIES.length] ?? '';
  const color = COLORS[Math.floor(number / CATEGORIES.length) % COLORS.length] ?? '';
  const vector = Float32Array.from({ length: dimension }, () => Math.random() - 0.5);
  const length = Math.hypot(...vector);
  return {
    id: toPointId(productId, 'main'),
    vector: vector.map((value) => value / length),
    payload: {
      ...{ productId, imageId: 'main', imageRef: `https://images.example/${number}.jpg`, contentHash: '' },
      ...{ version: 1, sequence: 1, indexedAt: Date.now() },
      ...{ name: `${color} ${category}`, category, price: number % 300, currency: 'EUR', tags: [color] },
      description: `A ${color} ${category}, number ${number} of many`,
    },
  };
}

async function untilListening(server: Program): Promise<string> {
  const url = await until('the server', () => /"url":"([^"]+)"/.exec(server.output)?.[1]);
  await until('its model', async () => ((await fetch(`${url}/readyz`)).ok ? true : undefined));
  return url;
}

/** The first searches of a process take longer. */
const WARM_UPS = 20;

async function post(url: string, body: object): Promise<void> {
  const response = await fetch(`${url}/search`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(body),
  });
  if (!response.ok)
    throw new Error(`A search was answered with ${response.status}: ${await response.text()}`);
  await response.json();
}

interface Comparison {
  readonly context: Context;
  readonly url: string;
  readonly picture: Buffer;
  readonly searches: number;
  readonly points: number;
}

async function compareWithStore({ context, url, picture, searches, points }: Comparison) {
  const { store } = context;
  const vectors = createQueryVectors(context);
  const { signal } = new AbortController();
  /** The request that the API makes of the same query. */
  const find = async (part: QueryPart, options: Partial<SearchRequest> = {}) => {
    await store.search({ parts: [part], limit: 10, groupByProduct: true, ...options });
  };
  const byVector = (vector: Float32Array): QueryPart => ({ by: 'image', vector, weight: 1 });
  const filter = { category: ['mug', 'bag'], price: { lt: 200 } };
  const cases = {
    'by product': {
      direct: async (id: string) => find(byVector(await vectors.ofProduct(id)), { excludeProductIds: [id] }),
      request: (id: string) => ({ product_id: id }),
    },
    'by words': {
      direct: () => find({ by: 'words', text: 'red mug', weight: 1 }),
      request: () => ({ text: 'red mug' }),
    },
    'by product, filtered': {
      direct: async (id: string) =>
        find(byVector(await vectors.ofProduct(id)), { excludeProductIds: [id], filter }),
      request: (id: string) => ({ product_id: id, filter }),
    },
    'by image (decoded and embedded on both sides)': {
      direct: async () => find(byVector(await vectors.ofImage(new Uint8Array(picture), { signal }))),
      request: () => ({ image_base64: picture.toString('base64') }),
    },
  };
  const rows = [];
  for (const [name, { direct, request }] of Object.entries(cases)) {
    const times = { direct: [] as number[], http: [] as number[], added: [] as number[] };
    let addedCpuMs = 0;
    for (let at = -WARM_UPS; at < searches; at += 1) {
      const id = `p${Math.floor(Math.random() * points)}`;
      const sides = [() => direct(id), () => post(url, request(id))] as const;
      // The second one finds a warmer machine: they take turns.
      const isDirectFirst = at % 2 === 0;
      const first = await timed(sides[isDirectFirst ? 0 : 1]);
      const second = await timed(sides[isDirectFirst ? 1 : 0]);
      const [store, http] = isDirectFirst ? [first, second] : [second, first];
      if (at < 0) continue;
      times.direct.push(store.ms);
      times.http.push(http.ms);
      // What else the machine does slows down both of a pair.
      times.added.push(http.ms - store.ms);
      addedCpuMs += http.cpuMs - store.cpuMs;
    }
    rows.push({
      search: name,
      'store, ms': toMs(quantile(times.direct, 0.5)),
      'HTTP, ms': toMs(quantile(times.http, 0.5)),
      'the API adds, ms': toMs(quantile(times.added, 0.5)),
      // Of the quickest tenth of both sides: what it would be on a machine that does nothing else.
      'undisturbed, ms': toMs(quantile(times.http, 0.1) - quantile(times.direct, 0.1)),
      'processor time, ms': toMs(addedCpuMs / searches),
      target: '< 3',
    });
  }
  return rows;
}

interface Load {
  readonly url: string;
  readonly picture: Buffer;
  readonly searches: number;
  readonly rounds: number;
}

async function measureWhileIndexing({ url, picture, searches, rounds }: Load): Promise<void> {
  const times: { idle: number[]; busy: number[] } = { idle: [], busy: [] };
  const producer = startProducer(url);
  await until('the worker', async () => ((await readStats(url)).completed > 0 ? true : undefined));
  const image_base64 = picture.toString('base64');
  for (let at = 0; at < WARM_UPS; at += 1) await post(url, { image_base64 });
  let [indexed, busySeconds] = [0, 0];
  for (let round = 0; round < rounds; round += 1) {
    for (const state of ['busy', 'idle'] as const) {
      await setPaused(url, state === 'idle');
      const before = (await readStats(url)).completed;
      const startedAt = performance.now();
      for (let at = 0; at < searches; at += 1) {
        times[state].push((await timed(() => post(url, { image_base64 }))).ms);
      }
      if (state === 'idle') continue;
      indexed += (await readStats(url)).completed - before;
      busySeconds += (performance.now() - startedAt) / 1_000;
    }
  }
  await producer.stop();
  const [idle, busy] = [times.idle, times.busy];
  console.log(`\nSearches with an image, ${idle.length} each, in ${rounds} turns:`);
  for (const [name, all] of Object.entries(times)) {
    console.log(`  ${name}: median ${toMs(quantile(all, 0.5))} ms, p99 ${toMs(quantile(all, 0.99))} ms`);
  }
  console.log(`  while ${(indexed / busySeconds).toFixed(0)} images per second were indexed`);
  const ratio = quantile(busy, 0.99) / quantile(idle, 0.99);
  console.log(`  p99 while indexing is ${ratio.toFixed(2)} times that of an idle system (target ≤ 3)`);
}

async function readStats(
  url: string,
): Promise<{ readonly completed: number; readonly total_pending: number }> {
  return (await (await fetch(`${url}/queue/stats`)).json()) as { completed: number; total_pending: number };
}

/** Paused, and nothing runs any more; or resumed, and something does. */
async function setPaused(url: string, paused: boolean): Promise<void> {
  await fetch(`${url}/queue/${paused ? 'pause' : 'resume'}`, { method: 'POST' });
  await until('the worker', async () => {
    const { processing } = (await (await fetch(`${url}/queue/stats`)).json()) as { processing: number };
    return processing > 0 === !paused ? true : undefined;
  });
}

/** Keeps jobs waiting: the pictures of the sample, each time as those of other products. */
function startProducer(url: string): { stop(): Promise<void> } {
  let isStopped = false;
  let number = 0;
  const running = (async () => {
    while (!isStopped) {
      if ((await readStats(url)).total_pending < BACKLOG) await enqueue(url, number++);
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  })();
  return {
    async stop() {
      isStopped = true;
      await running;
    },
  };
}

async function enqueue(url: string, batch: number): Promise<void> {
  const jobs = Array.from({ length: BACKLOG }, (_, at) => {
    const category = CATEGORIES[at % CATEGORIES.length] ?? '';
    const code = {
      mug: 'mug',
      chair: 'chr',
      lamp: 'lmp',
      bag: 'bag',
      shoe: 'sho',
      bottle: 'btl',
      watch: 'wch',
    };
    const name = code[category as keyof typeof code] ?? 'tsh';
    const variant = String(1 + (at % 12)).padStart(3, '0');
    const image_path = `images/${category}/${name}-${variant}.${at % 2 === 0 ? 'png' : 'jpg'}`;
    // Of products that are there, so that the store stays as large as it was.
    return { product_id: `p${(batch * BACKLOG + at) % 10_000}`, image_path, name: `${category} ${at}` };
  });
  await fetch(`${url}/queue/enqueue/batch`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(jobs),
  });
}

/** How long it took, and the processor time that this process used for it. */
async function timed(work: () => Promise<void>): Promise<{ readonly ms: number; readonly cpuMs: number }> {
  const startedAt = performance.now();
  const cpu = process.cpuUsage();
  await work();
  const { user, system } = process.cpuUsage(cpu);
  return { ms: performance.now() - startedAt, cpuMs: (user + system) / 1_000 };
}

function quantile(values: readonly number[], share: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
}

const toMs = (ms: number): number => Number(ms.toFixed(2));
