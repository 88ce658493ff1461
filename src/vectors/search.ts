import { VitrineError } from '../errors/vitrine-error.ts';
import { toDiverse } from './diversify.ts';
import { fuseRanks, type RankedList } from './fusion.ts';
import {
  type Hit,
  MAX_WINDOW,
  type MatchedBy,
  type PointPayload,
  type QueryPart,
  type SearchRequest,
  type StoredPoint,
} from './port.ts';

/** What one part of a query found. */
export interface Candidate {
  readonly id: string;
  readonly productId: string;
  readonly score: number;
  /** Where `withPayload` asked for it. */
  readonly payload?: PointPayload;
}

export interface RankOptions {
  readonly limit: number;
  readonly withPayload: boolean;
}

/** What differs between the stores. */
export interface SearchBackend {
  /** What the part finds, the best first and equal ones by id; with `groupByProduct`, the best image per product. */
  rank(part: QueryPart, request: SearchRequest, options: RankOptions): Promise<readonly Candidate[]>;
  /** Those points that are still there, in any order. */
  loadPoints(ids: readonly string[]): Promise<readonly StoredPoint[]>;
  /** Null for each that isn't there any more. */
  getPayloads(ids: readonly string[]): Promise<readonly (PointPayload | null)[]>;
}

/**
 * The first hits are fused from the best few of each part, which is quick; the others from all that a part may find.
 * A deeper search finds the same first hits, so that no hit is on two pages.
 */
const FIRST_HITS = { fused: 100, depth: 200 } as const;

/** How many of the best hits `diversify` puts in another order. The others follow by score. */
const DIVERSIFIED = 100;

interface Ranked extends Candidate {
  readonly matchedBy: readonly MatchedBy[];
}

interface PartResult {
  readonly part: QueryPart;
  readonly found: readonly Candidate[];
}

/** A search in either store: ranks each part, fuses the ranks, makes the hits diverse and takes the page. */
export async function search(backend: SearchBackend, request: SearchRequest): Promise<readonly Hit[]> {
  const { limit, offset = 0, diversify = 0, parts } = request;
  const [first] = parts;
  if (first === undefined)
    throw new VitrineError('invalid_request', 'The search names nothing to search with.');
  const end = offset + limit;
  const isSingle = parts.length === 1;
  const depth = isSingle ? Math.max(end, diversify > 0 ? DIVERSIFIED : 0) : toFusionDepth(end);
  const options = { limit: depth, withPayload: isSingle && diversify === 0 };
  const results = await Promise.all(
    parts.map(async (part) => ({ part, found: await backend.rank(part, request, options) })),
  );
  const ranked = isSingle ? toRanked(results) : toFused(results, request.groupByProduct);
  const ordered =
    diversify > 0
      ? await toDiversified(backend, ranked, diversify, isSingle && first.by !== 'words')
      : ranked;
  return loadHits(backend, ordered.slice(offset, end));
}

function toRanked(results: readonly PartResult[]): readonly Ranked[] {
  return results.flatMap(({ part, found }) =>
    found.map((candidate) => ({ ...candidate, matchedBy: [part.by] })),
  );
}

function toFusionDepth(end: number): number {
  return end <= FIRST_HITS.fused ? FIRST_HITS.depth : MAX_WINDOW;
}

/** @returns the keys with their scores: the first ones by the best few of each part, then the others */
function fuse(lists: readonly RankedList[]): readonly (readonly [key: string, score: number])[] {
  const shallow = lists.map(({ keys, weight }) => ({ keys: keys.slice(0, FIRST_HITS.depth), weight }));
  const first = fuseRanks(shallow).slice(0, FIRST_HITS.fused);
  const known = new Set(first.map(([key]) => key));
  return [...first, ...fuseRanks(lists).filter(([key]) => !known.has(key))];
}

function toFused(results: readonly PartResult[], groupByProduct: boolean): readonly Ranked[] {
  const toKey = (candidate: Candidate) => (groupByProduct ? candidate.productId : candidate.id);
  const fused = fuse(results.map(({ part, found }) => ({ keys: found.map(toKey), weight: part.weight })));
  const candidates = new Map<string, Candidate>();
  const matchedBy = new Map<string, Set<MatchedBy>>();
  // Vectors first: which image of a product is the best one is theirs to say; its words are the same for all.
  const vectorsFirst = results.toSorted(
    (a, b) => Number(a.part.by === 'words') - Number(b.part.by === 'words'),
  );
  for (const { part, found } of vectorsFirst) {
    for (const candidate of found) {
      const key = toKey(candidate);
      if (!candidates.has(key)) candidates.set(key, candidate);
      matchedBy.set(key, (matchedBy.get(key) ?? new Set()).add(part.by));
    }
  }
  return fused.flatMap(([key, score]) => {
    const candidate = candidates.get(key);
    return candidate === undefined
      ? []
      : [{ ...candidate, score, matchedBy: [...(matchedBy.get(key) ?? [])] }];
  });
}

/** The same in both stores, also for fused and grouped hits, which Qdrant's own MMR doesn't do. */
async function toDiversified(
  backend: SearchBackend,
  ranked: readonly Ranked[],
  diversity: number,
  isCosine: boolean,
): Promise<readonly Ranked[]> {
  const head = ranked.slice(0, DIVERSIFIED);
  const points = new Map(
    (await backend.loadPoints(head.map(({ id }) => id))).map((point) => [point.id, point]),
  );
  const greatest = isCosine ? 1 : (head[0]?.score ?? 1);
  const candidates = head.flatMap((hit) => {
    const point = points.get(hit.id);
    if (point === undefined) return [];
    return [
      { hit: { ...hit, payload: point.payload }, relevance: hit.score / greatest, vector: point.vector },
    ];
  });
  const diverse = toDiverse(candidates, diversity).map(({ hit }) => hit);
  return [...diverse, ...ranked.slice(DIVERSIFIED)];
}

/** With the payloads that aren't known yet. A point that was deleted since it was ranked is left out. */
async function loadHits(backend: SearchBackend, page: readonly Ranked[]): Promise<readonly Hit[]> {
  const unknown = page.filter(({ payload }) => payload === undefined).map(({ id }) => id);
  const loaded = unknown.length === 0 ? [] : await backend.getPayloads(unknown);
  const payloads = new Map(unknown.map((id, index) => [id, loaded[index] ?? null]));
  return page.flatMap(({ id, score, matchedBy, payload = payloads.get(id) }) =>
    payload === undefined || payload === null ? [] : [{ id, score, matchedBy, payload }],
  );
}
