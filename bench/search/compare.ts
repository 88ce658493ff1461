import type { Context } from '../../src/context.ts';
import { startServer } from '../../src/http/server.ts';
import { createQueryVectors } from '../../src/search/query-vectors.ts';
import type { QueryPart, SearchRequest } from '../../src/vectors/port.ts';
import { median, percentile, type Row } from '../support/report.ts';
import { postSearch, timeMs, toFixed } from './client.ts';

/** At least; the code of both sides is compiled while it runs, which takes some seconds. */
const WARM_UPS = 10;
/** Measured at least, however long a search takes. */
const MIN_PAIRS = 20;
const IN_FLIGHT = 4;
/** Each side's, per search. */
const RATE_TURNS = 2;
const MAX_ADDED_MS = 3;

interface Comparison {
  /** Its store is asked directly. */
  readonly context: Context;
  readonly picture: Buffer;
  readonly points: number;
  /** Of each search: so long to warm up, as long for the times, and again for the rates. */
  readonly seconds: number;
}

/** The same search by a call of the store, and by a request to the HTTP API. */
interface Sides {
  readonly store: () => Promise<unknown>;
  readonly api: () => Promise<unknown>;
}

/** What the HTTP API adds to the store's own searches, in turns, with its client in this process too. */
export async function compareWithStore(comparison: Comparison): Promise<readonly Row[]> {
  const server = await startServer(comparison.context);
  try {
    const rows = [];
    for (const [search, toSides] of Object.entries(createSearches(comparison, server.url))) {
      const warmUntil = performance.now() + comparison.seconds * 1_000;
      for (let at = 0; at < WARM_UPS || performance.now() < warmUntil; at += 1) {
        const { store, api } = toSides();
        await Promise.all([store(), api()]);
      }
      rows.push({
        search,
        ...(await compareTimes(toSides, comparison.seconds)),
        ...(await compareRates(toSides, comparison.seconds)),
      });
    }
    return rows;
  } finally {
    await server.stop();
  }
}

/** By name; each call gives another search of its kind. */
function createSearches({ context, picture, points }: Comparison, url: string) {
  const vectors = createQueryVectors(context);
  const { signal } = new AbortController();
  /** The request that the API makes of the same query. */
  const find = (part: QueryPart, options: Partial<SearchRequest> = {}) =>
    context.store.search({ parts: [part], limit: 10, groupByProduct: true, ...options });
  const byImage = (vector: Float32Array): QueryPart => ({ by: 'image', vector, weight: 1 });
  const filter = { category: ['mug', 'bag'], price: { lt: 200 } };
  const image_base64 = picture.toString('base64');
  const anyProduct = () => `p${Math.floor(Math.random() * points)}`;
  return {
    'by product': (id = anyProduct()): Sides => ({
      store: async () => find(byImage(await vectors.ofProduct(id)), { excludeProductIds: [id] }),
      api: () => postSearch(url, { product_id: id }),
    }),
    'by product, filtered': (id = anyProduct()): Sides => ({
      store: async () => find(byImage(await vectors.ofProduct(id)), { excludeProductIds: [id], filter }),
      api: () => postSearch(url, { product_id: id, filter }),
    }),
    'by words': (): Sides => ({
      store: () => find({ by: 'words', text: 'red mug', weight: 1 }),
      api: () => postSearch(url, { text: 'red mug' }),
    }),
    // Decoded and embedded on both sides.
    'by image': (): Sides => ({
      store: async () => find(byImage(await vectors.ofImage(new Uint8Array(picture), { signal }))),
      api: () => postSearch(url, { image_base64 }),
    }),
  };
}

async function compareTimes(toSides: () => Sides, seconds: number): Promise<Row> {
  const times = { store: [] as number[], api: [] as number[] };
  const end = performance.now() + seconds * 1_000;
  for (let at = 0; at < MIN_PAIRS || performance.now() < end; at += 1) {
    const sides = toSides();
    // The second one finds a warmer machine: they take turns.
    const order = at % 2 === 0 ? (['store', 'api'] as const) : (['api', 'store'] as const);
    for (const side of order) times[side].push(await timeMs(sides[side]));
  }
  // What else the machine does slows down both of a pair.
  const added = median(times.api.map((ms, at) => ms - (times.store[at] ?? Number.NaN)));
  const p99 = { store: percentile(times.store, 0.99), api: percentile(times.api, 0.99) };
  return {
    pairs: times.api.length,
    'store p50, ms': toFixed(median(times.store)),
    'API p50, ms': toFixed(median(times.api)),
    'API adds, ms': toFixed(added),
    target: `< ${MAX_ADDED_MS}`,
    met: added < MAX_ADDED_MS ? 'yes' : 'no',
    'store p99, ms': toFixed(p99.store),
    'API p99, ms': toFixed(p99.api),
    'p99 ratio': toFixed(p99.api / p99.store),
  };
}

async function compareRates(toSides: () => Sides, seconds: number): Promise<Row> {
  const done = { store: 0, api: 0 };
  const ms = { store: 0, api: 0 };
  for (let turn = 0; turn < RATE_TURNS; turn += 1) {
    for (const side of ['store', 'api'] as const) {
      const end = performance.now() + (seconds * 1_000) / (2 * RATE_TURNS);
      const lane = async () => {
        for (; performance.now() < end; done[side] += 1) await toSides()[side]();
      };
      ms[side] += await timeMs(() => Promise.all(Array.from({ length: IN_FLIGHT }, lane)));
    }
  }
  const rate = { store: (done.store / ms.store) * 1_000, api: (done.api / ms.api) * 1_000 };
  return {
    'store, per s': toFixed(rate.store),
    'API, per s': toFixed(rate.api),
    'rate ratio': toFixed(rate.api / rate.store),
  };
}
