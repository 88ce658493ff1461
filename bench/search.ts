import { globSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { parseArgs } from 'node:util';
import { pino } from 'pino';
import { parseConfig } from '../src/config/config.ts';
import { createContext } from '../src/context.ts';
import { createSampleCatalog } from '../src/samples/sample-catalog.ts';
import { createTempFolder } from '../tests/support/context.ts';
import { type Program, startProgram } from '../tests/support/program.ts';
import { listRealStores, type TestStore } from '../tests/support/stores.ts';
import { until } from '../tests/support/until.ts';
import { compareWithStore } from './search/compare.ts';
import { measureWhileIndexing } from './search/indexing.ts';
import { fill } from './search/points.ts';
import { type Row, report } from './support/report.ts';

/** Where it takes longer, what is not indexed yet is searched point by point. */
const MAX_INDEXING_MS = 90_000;

interface Options {
  /** Each size is measured in turn, the smallest first. */
  readonly sizes: readonly number[];
  readonly seconds: number;
  readonly rounds: number;
  readonly isOneProcess: boolean;
}

/**
 * Searches on SQLite, and on Qdrant with QDRANT_URL: times and rates of the HTTP API compared with those of the store that
 * it asks; and, at the smallest size, how much longer a search with an image takes while images are indexed, by a worker
 * process of its own or by the server's.
 */
export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      points: { type: 'string', default: '10000,100000' },
      seconds: { type: 'string', default: '4' },
      rounds: { type: 'string', default: '4' },
      'one-process': { type: 'boolean', default: false },
    },
  });
  const options = {
    sizes: values.points
      .split(',')
      .map(Number)
      .toSorted((a, b) => a - b),
    seconds: Number(values.seconds),
    rounds: Number(values.rounds),
    isOneProcess: values['one-process'],
  };
  const [searches, indexing]: [Row[], Row[]] = [[], []];
  for (const store of listRealStores()) {
    const measured = await measureStore(store, options);
    searches.push(...measured.searches);
    indexing.push(...measured.indexing);
  }
  console.log('\nThe HTTP API, and the store called directly, in turns; rates with 4 searches in flight');
  report('search', searches);
  console.log('\nSearches with an image while images are indexed, and while the queue is paused');
  report('search-while-indexing', indexing);
}

async function measureStore({ name: store, start }: TestStore, { sizes, ...options }: Options) {
  await using folder = await createTempFolder();
  await using started = await start();
  const pictures = dirname((await createSampleCatalog(join(folder.path, 'pictures'))).csv);
  const environment = {
    DATA_DIR: folder.path,
    MODEL: 'builtin',
    LOG_LEVEL: 'error',
    IMAGE_ROOTS: pictures,
    PORT: '0',
    ...started.environment,
  };
  const paths = globSync('images/*/*', { cwd: pictures });
  const picture = await readFile(join(pictures, 'images/lamp/lmp-002.jpg'));
  await using context = await createContext(parseConfig(environment), { logger: pino({ level: 'silent' }) });
  const [searches, indexing]: [Row[], Row[]] = [[], []];
  for (const points of sizes) {
    const from = performance.now();
    await fill(context, points);
    const filledMs = performance.now() - from;
    const isIndexed = await started.isIndexed(MAX_INDEXING_MS);
    const state = isIndexed
      ? `indexed after ${toSeconds(performance.now() - from)} s`
      : 'not all indexed yet';
    console.log(`${store}: ${points} points written in ${toSeconds(filledMs)} s, ${state}`);
    const rows = await compareWithStore({ context, picture, points, ...options });
    searches.push(...rows.map((row) => ({ store, points, ...row })));
    if (points !== sizes[0]) continue;
    await using server = await startPrograms(environment, options);
    const { url } = server;
    indexing.push({
      store,
      points,
      ...(await measureWhileIndexing({ url, picture, paths, points, ...options })),
    });
  }
  return { searches, indexing };
}

/** A server and a worker, once both are ready. */
async function startPrograms(
  environment: Readonly<Record<string, string>>,
  { isOneProcess }: Pick<Options, 'isOneProcess'>,
): Promise<AsyncDisposable & { readonly url: string }> {
  await using stack = new AsyncDisposableStack();
  const serve = ['serve', isOneProcess ? '--worker' : '--no-worker'];
  const server = stack.use(startProgram('src/cli.ts', { ...environment, LOG_LEVEL: 'info' }, serve));
  const url = await untilReady(server);
  if (!isOneProcess) stack.use(startProgram('src/cli.ts', environment, ['worker']));
  const parts = stack.move();
  return { url, [Symbol.asyncDispose]: () => parts.disposeAsync() };
}

async function untilReady(server: Program): Promise<string> {
  const url = await until('the server', () => /"url":"([^"]+)"/.exec(server.output)?.[1]);
  await until('its model', async () => ((await fetch(`${url}/readyz`)).ok ? true : undefined));
  return url;
}

const toSeconds = (ms: number): string => (ms / 1_000).toFixed(0);
