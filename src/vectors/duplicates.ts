import { setImmediate as nextTurn } from 'node:timers/promises';
import { VitrineError } from '../errors/vitrine-error.ts';
import type { DuplicateGroup, DuplicateImage, Duplicates, DuplicatesRequest, StoredPoint } from './port.ts';
import { countBits, createSigner, planTables, type TablePlan } from './signatures.ts';

/** What differs between the stores. */
export interface DuplicatesBackend {
  /** Every point, page by page. */
  scan(): AsyncIterable<readonly StoredPoint[]>;
  count(): Promise<number>;
  /** Those points that are still there, in any order. */
  loadPoints(ids: readonly string[]): Promise<readonly StoredPoint[]>;
}

type ScannedImage = Omit<DuplicateImage, 'similarity'>;

/** An image's number must fit into a key: see `toSortedTable`. */
const MAX_IMAGES = 2 ** 21;
/** Pairs whose vectors are loaded and compared at once. */
const PAIRS_PER_CHECK = 500;
/** How far the share of differing bits may be from what is expected at the threshold, in standard deviations. */
const DEVIATIONS = 3;
/** Images in one bucket. */
const CROWD = 64;
/** Pairs that aren't compared again in the next table. */
const MAX_REMEMBERED = 5_000_000;
const SAMPLE = 300;
const MAX_BUSY_MS = 25;

/**
 * Groups of the same picture (equal bytes) or nearly the same (cosine) in several products. Images that share the bits
 * of a table are compared bit by bit, and those that are alike by their vectors: of 100,000 images, a few thousand pairs
 * rather than 5,000,000,000. In memory is a signature per image, not its vector. What one group has in common is a
 * chain: the first and the last image of it may be less alike than the threshold.
 */
export async function findDuplicates(
  backend: DuplicatesBackend,
  request: DuplicatesRequest,
): Promise<Duplicates> {
  const { threshold, limit, signal } = request;
  signal?.throwIfAborted();
  const pause = createPause(signal);
  const { images, keys, plan } = await scanImages(backend, threshold, pause);
  const groups = createGroups(images.length);
  const firsts = joinSameBytes(images, groups);
  const comparedPairs = await joinNear(backend, { images, keys, plan, firsts, groups, threshold, pause });

  const found = toGroups(images, groups);
  return { groups: found.slice(0, limit), images: images.length, totalGroups: found.length, comparedPairs };
}

interface Scanned {
  readonly images: readonly ScannedImage[];
  readonly keys: readonly Uint32Array[];
  readonly plan: TablePlan;
}

async function scanImages(backend: DuplicatesBackend, threshold: number, pause: Pause): Promise<Scanned> {
  const images: ScannedImage[] = [];
  const keys: Uint32Array[] = [];
  const expected = await backend.count();
  let plan = planTables(expected, threshold, 0);
  let sign: ReturnType<typeof createSigner> | undefined;
  for await (const page of backend.scan()) {
    if (sign === undefined && page[0] !== undefined) {
      plan = planTables(expected, threshold, toUsualCosine(page.slice(0, SAMPLE)));
      sign = createSigner(page[0].vector.length, plan);
    }
    for (const { id, vector, payload } of page) {
      if (images.length === MAX_IMAGES || sign === undefined) {
        throw new VitrineError('store_rejected', `Duplicates are found among at most ${MAX_IMAGES} images.`);
      }
      const { productId, imageId, imageRef, contentHash } = payload;
      images.push({ id, productId, imageId, imageRef, contentHash });
      keys.push(sign(vector));
      if (pause.isDue()) await pause.rest();
    }
  }
  return { images, keys, plan };
}

/** What 95 of 100 pairs of a sample stay below. */
function toUsualCosine(sample: readonly StoredPoint[]): number {
  const cosines = sample.flatMap(({ vector }, at) =>
    sample.slice(at + 1, at + 20).map((other) => toCosine(vector, other.vector)),
  );
  return cosines.toSorted((a, b) => a - b)[Math.floor(cosines.length * 0.95)] ?? 0;
}

/** @returns one image per content: only these can have near duplicates that aren't in a group yet */
function joinSameBytes(images: readonly ScannedImage[], groups: Groups): readonly number[] {
  const firsts = new Map<string, number>();
  for (const [index, { id, contentHash }] of images.entries()) {
    // Points of early versions have no hash.
    const content = contentHash === '' ? id : contentHash;
    const first = firsts.get(content);
    if (first === undefined) firsts.set(content, index);
    else groups.join(first, index, 1);
  }
  return [...firsts.values()];
}

interface NearSearch extends Scanned {
  readonly firsts: readonly number[];
  readonly groups: Groups;
  readonly threshold: number;
  readonly pause: Pause;
}

/** @returns how many pairs of vectors were compared */
async function joinNear(backend: DuplicatesBackend, search: NearSearch): Promise<number> {
  const { keys, plan, firsts, groups, threshold, pause, images } = search;
  const bits = plan.bits * plan.tables;
  const expected = plan.expectedDifference * bits;
  const limit = expected + DEVIATIONS * Math.sqrt(expected * (1 - plan.expectedDifference));
  const compared = new Set<number>();
  let pending: (readonly [number, number])[] = [];
  let comparedPairs = 0;

  async function check(): Promise<void> {
    const indexes = [...new Set(pending.flat())];
    const points = await backend.loadPoints(indexes.map((index) => images[index]?.id ?? ''));
    const vectors = new Map(points.map(({ id, vector }) => [id, vector]));
    for (const [a, b] of pending) {
      const [one, other] = [vectors.get(images[a]?.id ?? ''), vectors.get(images[b]?.id ?? '')];
      if (one === undefined || other === undefined) continue;
      const cosine = toCosine(one, other);
      if (cosine >= threshold) groups.join(a, b, cosine);
    }
    comparedPairs += pending.length;
    pending = [];
  }

  for (let table = 0; table < plan.tables; table += 1) {
    for (const bucket of toBuckets(keys, firsts, table)) {
      let earlier: number[] = [];
      for (const image of bucket) {
        for (const other of earlier) {
          if (groups.find(other) === groups.find(image)) continue;
          if (countDifference(keys[other], keys[image], limit) > limit) continue;
          const pair = Math.min(other, image) * MAX_IMAGES + Math.max(other, image);
          if (compared.has(pair)) continue;
          if (compared.size === MAX_REMEMBERED) compared.clear();
          compared.add(pair);
          pending.push([other, image]);
        }
        earlier.push(image);
        if (pending.length >= PAIRS_PER_CHECK) await check();
        if (earlier.length % CROWD === 0) earlier = toOnePerGroup(earlier, groups);
        if (pause.isDue()) await pause.rest();
      }
    }
  }
  await check();
  return comparedPairs;
}

/** In a crowd of the same picture, one of them stands for all: otherwise each would be compared with each. */
function toOnePerGroup(images: readonly number[], groups: Groups): number[] {
  return [...new Map(images.map((image) => [groups.find(image), image])).values()];
}

/** The images that have a key of the table in common. */
function* toBuckets(
  keys: readonly Uint32Array[],
  images: readonly number[],
  table: number,
): Generator<readonly number[]> {
  // A key of 32 bits and a number of 21 fit into a double: sorting the numbers brings equal keys together.
  const sorted = Float64Array.from(
    images,
    (image) => (keys[image]?.[table] ?? 0) * MAX_IMAGES + image,
  ).sort();
  let bucket: number[] = [];
  let current = -1;
  for (const packed of sorted) {
    const key = Math.floor(packed / MAX_IMAGES);
    if (key !== current && bucket.length > 1) yield bucket;
    if (key !== current) bucket = [];
    current = key;
    bucket.push(packed % MAX_IMAGES);
  }
  if (bucket.length > 1) yield bucket;
}

/** Stops counting above the limit. */
function countDifference(a: Uint32Array | undefined, b: Uint32Array | undefined, limit: number): number {
  let difference = 0;
  if (a === undefined || b === undefined) return Number.POSITIVE_INFINITY;
  for (let at = 0; at < a.length && difference <= limit; at += 1) {
    difference += countBits((a[at] ?? 0) ^ (b[at] ?? 0));
  }
  return difference;
}

interface Groups {
  find(image: number): number;
  join(a: number, b: number, similarity: number): void;
  /** The greatest of the cosines that joined it; 0 for an image alone. */
  similarityOf(image: number): number;
}

/** Disjoint sets of images. */
function createGroups(images: number): Groups {
  const parents = Uint32Array.from({ length: images }, (_, index) => index);
  const similarities = new Float32Array(images);
  function find(image: number): number {
    let at = image;
    for (let parent = parents[at]; parent !== undefined && parent !== at; parent = parents[at]) {
      parents[at] = parents[parent] ?? parent;
      at = parent;
    }
    return at;
  }
  return {
    find,
    join(a, b, similarity) {
      parents[find(b)] = find(a);
      for (const image of [a, b]) similarities[image] = Math.max(similarities[image] ?? 0, similarity);
    },
    similarityOf: (image) => similarities[image] ?? 0,
  };
}

function toGroups(images: readonly ScannedImage[], groups: Groups): readonly DuplicateGroup[] {
  const members = new Map<number, DuplicateImage[]>();
  for (const [index, image] of images.entries()) {
    const similarity = groups.similarityOf(index);
    if (similarity === 0) continue;
    const root = groups.find(index);
    const group = members.get(root) ?? [];
    group.push({ ...image, similarity: Math.min(similarity, 1) });
    members.set(root, group);
  }
  return [...members.values()]
    .filter((group) => new Set(group.map(({ productId }) => productId)).size > 1)
    .map((group): DuplicateGroup => {
      const isExact =
        new Set(group.map(({ contentHash }) => contentHash)).size === 1 && group[0]?.contentHash !== '';
      const sorted = group.toSorted(
        (a, b) => compare(a.productId, b.productId) || compare(a.imageId, b.imageId),
      );
      return { kind: isExact ? 'exact' : 'near', images: sorted };
    })
    .toSorted(
      (a, b) => b.images.length - a.images.length || compare(a.images[0]?.id ?? '', b.images[0]?.id ?? ''),
    );
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

function toCosine(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let at = 0; at < a.length; at += 1) sum += (a[at] ?? 0) * (b[at] ?? 0);
  return sum;
}

interface Pause {
  isDue(): boolean;
  rest(): Promise<void>;
}

/** Lets other work of the process go on, and ends the search when nobody waits for it. */
function createPause(signal: AbortSignal | undefined): Pause {
  let since = performance.now();
  return {
    isDue: () => performance.now() - since > MAX_BUSY_MS,
    async rest() {
      await nextTurn();
      signal?.throwIfAborted();
      since = performance.now();
    },
  };
}
