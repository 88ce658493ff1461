import { join } from 'node:path';
import { monitorEventLoopDelay } from 'node:perf_hooks';
import { parseArgs } from 'node:util';
import { toPointId } from '../src/catalog/product-image.ts';
import type { Point, VectorStore } from '../src/vectors/port.ts';
import { createSqliteVectorStore } from '../src/vectors/sqlite/vector-store.ts';
import { createTempFolder } from '../tests/support/context.ts';

/**
 * Duplicates among many products: how long it takes to find them, how many of those that were planted are found, and
 * how few pairs are compared. The vectors are synthetic: all are somewhat alike, as those of real pictures are.
 */
export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      products: { type: 'string', default: '100000' },
      dimension: { type: 'string', default: '512' },
      threshold: { type: 'string', default: '0.96' },
    },
  });
  const [products, dimension, threshold] = [values.products, values.dimension, values.threshold].map(
    Number,
  ) as [number, number, number];
  await using folder = await createTempFolder();
  await using store = createSqliteVectorStore({
    file: join(folder.path, 'vectors.sqlite'),
    collection: 'products',
  });
  const planted = await fill(store, products, dimension, threshold);
  console.log(`${products} products with one image each, ${dimension} dimensions, threshold ${threshold}`);

  const delays = monitorEventLoopDelay({ resolution: 5 });
  delays.enable();
  const before = process.cpuUsage();
  const start = performance.now();
  const found = await store.duplicates({ threshold, limit: products });
  const seconds = (performance.now() - start) / 1_000;
  const { user, system } = process.cpuUsage(before);
  delays.disable();

  const groupOf = new Map<string, number>();
  for (const [index, { images }] of found.groups.entries())
    for (const { productId } of images) groupOf.set(productId, index);
  const isFound = ([a, b]: readonly [string, string]) => groupOf.has(a) && groupOf.get(a) === groupOf.get(b);
  const allPairs = (products * (products - 1)) / 2;
  console.log(
    `  found in ${seconds.toFixed(1)} s, with ${((user + system) / 1e6).toFixed(1)} s of a processor`,
  );
  console.log(`  ${found.totalGroups} groups`);
  for (const kind of ['exact', 'near'] as const) {
    const pairs = planted.filter((pair) => pair.kind === kind);
    const hits = pairs.filter(({ ids }) => isFound(ids)).length;
    console.log(`  ${kind}: ${hits} of ${pairs.length} planted pairs`);
  }
  console.log(
    `  ${found.comparedPairs} pairs compared, of ${allPairs}: 1 in ${Math.round(allPairs / found.comparedPairs)}`,
  );
  console.log(`  the event loop waited at most ${(delays.max / 1e6).toFixed(0)} ms`);
  console.log(`  memory: ${Math.round(process.memoryUsage().rss / 2 ** 20)} MiB`);
}

interface PlantedPair {
  readonly kind: 'exact' | 'near';
  readonly ids: readonly [string, string];
}

/** One product in fifty is a copy of the one before it: half of them with the same bytes, half nearly the same. */
async function fill(
  store: VectorStore,
  products: number,
  dimension: number,
  threshold: number,
): Promise<readonly PlantedPair[]> {
  const random = createRandom();
  const gaussian = () => Math.sqrt(-2 * Math.log(1 - random())) * Math.cos(2 * Math.PI * random());
  const common = Float32Array.from({ length: dimension }, gaussian);
  const planted: PlantedPair[] = [];
  await store.ensureCollection({ id: 'synthetic', dimension, fingerprint: 'bench' });
  let previous: Point | undefined;
  let batch: Point[] = [];
  for (let index = 0; index < products; index += 1) {
    const copied: Point | undefined = index % 50 === 49 ? previous : undefined;
    const kind = index % 100 === 99 ? 'exact' : 'near';
    const fresh = Float32Array.from(common, (value) => value + gaussian());
    // Between the threshold and 1, and not below it: a pair at the threshold itself can fall on either side.
    const cosine = threshold + (1 - threshold) * (0.1 + 0.9 * random());
    const vector =
      copied === undefined
        ? toUnit(fresh)
        : kind === 'exact'
          ? copied.vector
          : toNeighbour(copied.vector, toUnit(fresh), cosine);
    const point = toPoint(`p${index}`, vector, copied !== undefined && kind === 'exact' ? copied : undefined);
    if (copied !== undefined)
      planted.push({ kind, ids: [copied.payload.productId, point.payload.productId] });
    previous = point;
    batch.push(point);
    if (batch.length === 1_000 || index === products - 1) {
      await store.upsert(batch);
      batch = [];
    }
  }
  return planted;
}

function toPoint(productId: string, vector: Float32Array, sameBytes: Point | undefined): Point {
  return {
    id: toPointId(productId, 'main'),
    vector,
    payload: {
      productId,
      imageId: 'main',
      imageRef: `https://images.test/${productId}.jpg`,
      contentHash: sameBytes?.payload.contentHash ?? productId.padStart(64, '0'),
      version: 1,
      sequence: 1,
      indexedAt: 1_700_000_000_000,
    },
  };
}

function toUnit(vector: Float32Array): Float32Array {
  const length = Math.hypot(...vector);
  return vector.map((value) => value / length);
}

/** A vector at this cosine from the first, in the direction of the second. */
function toNeighbour(vector: Float32Array, towards: Float32Array, cosine: number): Float32Array {
  const along = vector.reduce((sum, value, at) => sum + value * (towards[at] ?? 0), 0);
  const across = toUnit(towards.map((value, at) => value - along * (vector[at] ?? 0)));
  const sine = Math.sqrt(1 - cosine * cosine);
  return vector.map((value, at) => cosine * value + sine * (across[at] ?? 0));
}

/** The same numbers in every run. */
function createRandom(): () => number {
  let state = 1;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}
