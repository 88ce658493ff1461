import {
  type DoublePoint,
  type Filter,
  isIndexable,
  matches,
  type PointId,
  Refusal,
  type SparseVector,
  valuesAt,
} from './qdrant-double-filter.ts';

/** The parts of request bodies that the double reads. */
export interface Body {
  readonly vectors?: Record<string, { readonly size: number; readonly distance: string }>;
  readonly sparse_vectors?: Record<string, SparseParams>;
  readonly sparse?: SparseParams;
  readonly metadata?: Record<string, unknown>;
  readonly field_name?: string;
  readonly field_schema?: string | { readonly type: string };
  readonly points?: readonly unknown[];
  readonly ids?: readonly PointId[];
  readonly update_filter?: Filter;
  readonly filter?: Filter;
  readonly query?: readonly number[] | SparseVector;
  readonly using?: string;
  readonly limit?: number;
  readonly offset?: PointId;
  readonly score_threshold?: number;
  readonly with_payload?: boolean | readonly string[];
  readonly with_vector?: boolean | readonly string[];
  readonly key?: string;
  readonly exact?: boolean;
  readonly group_by?: string;
  readonly group_size?: number;
}

interface SparseParams {
  readonly modifier?: string;
}

interface WirePoint {
  readonly id: PointId;
  readonly vector: Record<string, readonly number[] | SparseVector> | readonly number[];
  readonly payload?: Record<string, unknown>;
}

interface Ranked {
  readonly point: DoublePoint;
  readonly score: number;
}

export type DoubleCollection = ReturnType<typeof createDoubleCollection>;

/** One collection in memory, with cosine for every dense vector. */
export function createDoubleCollection({ vectors = {}, sparse_vectors = {}, metadata }: Body) {
  const sparseVectors = new Map(Object.entries(sparse_vectors));
  const points = new Map<PointId, DoublePoint>();
  const indexes = new Map<string, string>();

  function toUnit(name: string, vector: readonly number[]): Float32Array {
    const size = vectors[name]?.size;
    if (size === undefined) throw new Refusal(400, `Wrong input: Not existing vector name error: ${name}`);
    if (vector.length !== size) {
      throw new Refusal(
        400,
        `Wrong input: Vector dimension error: expected dim: ${size}, got ${vector.length}`,
      );
    }
    const length = Math.hypot(...vector);
    return Float32Array.from(vector, (value) => (length === 0 ? value : value / length));
  }

  function checkSparse(name: string, vector: SparseVector): SparseVector {
    if (!sparseVectors.has(name)) {
      throw new Refusal(400, `Wrong input: Not existing vector name error: ${name}`);
    }
    const { indices, values } = vector;
    if (indices.length !== values.length) {
      throw new Refusal(422, 'Validation error in JSON body: values: must be the same length as indices');
    }
    if (new Set(indices).size !== indices.length) {
      throw new Refusal(422, 'Validation error in JSON body: indices: must be unique');
    }
    if (!indices.every((index) => Number.isInteger(index) && index >= 0 && index < 2 ** 32)) {
      throw new Refusal(400, 'Format error in JSON body: an index is not a u32');
    }
    return vector;
  }

  function toRecord(
    { id, vectors: stored, sparse, payload }: DoublePoint,
    withPayload: Body['with_payload'] = true,
    withVector: Body['with_vector'] = false,
  ) {
    const all = [...[...stored].map(([name, vector]) => [name, [...vector]] as const), ...sparse];
    const chosen = all.filter(([name]) => withVector === true || [withVector].flat().includes(name));
    return {
      id,
      ...(withPayload === false ? {} : { payload: toPayload(payload, withPayload) }),
      ...(withVector === false ? {} : { vector: Object.fromEntries(chosen) }),
    };
  }

  const matching = (filter: Filter | undefined): DoublePoint[] =>
    [...points.values()].filter((point) => matches(point, filter, indexes));

  /** All matching points that have the vector, or a part of the sparse one; the best first. */
  function rank({ query, using = '', filter, score_threshold }: Body): Ranked[] {
    const score = toScorer(query, using);
    return matching(filter)
      .flatMap((point): Ranked[] => {
        const found = score(point);
        return found === null || found < (score_threshold ?? Number.NEGATIVE_INFINITY)
          ? []
          : [{ point, score: found }];
      })
      .sort((a, b) => b.score - a.score);
  }

  function toScorer(query: Body['query'], using: string): (point: DoublePoint) => number | null {
    if (Array.isArray(query)) {
      const wanted = toUnit(using, query);
      return ({ vectors: stored }) =>
        stored.get(using)?.reduce((sum, value, at) => sum + value * wanted[at]!, 0) ?? null;
    }
    if (typeof query !== 'object' || !('indices' in query)) {
      throw new Refusal(501, 'The double imitates queries by a vector only');
    }
    const { indices, values } = checkSparse(using, query);
    const all = [...points.values()].flatMap(({ sparse }) => sparse.get(using)?.indices ?? []);
    const texts = [...points.values()].filter(({ sparse }) => sparse.get(using)?.indices.length).length;
    const weights = values.map((value, at) => {
      const found = all.filter((index) => index === indices[at]).length;
      const isIdf = sparseVectors.get(using)?.modifier === 'idf';
      return value * (isIdf ? Math.log((texts - found + 0.5) / (found + 0.5) + 1) : 1);
    });
    return ({ sparse }) => {
      const stored = sparse.get(using);
      const common = (stored?.indices ?? []).filter((index) => indices.includes(index));
      if (stored === undefined || common.length === 0) return null;
      return common.reduce(
        (sum, index) =>
          sum + stored.values[stored.indices.indexOf(index)]! * weights[indices.indexOf(index)]!,
        0,
      );
    };
  }

  const toScored = ({ point, score }: Ranked, { with_payload = false, with_vector }: Body) => ({
    ...toRecord(point, with_payload, with_vector),
    score,
    version: 0,
  });

  return {
    info: () => ({
      status: 'green',
      optimizer_status: 'ok',
      points_count: points.size,
      segments_count: 1,
      config: {
        params: {
          vectors,
          ...(sparseVectors.size > 0 && { sparse_vectors: Object.fromEntries(sparseVectors) }),
        },
        hnsw_config: { m: 16, ef_construct: 100, full_scan_threshold: 10_000 },
        optimizer_config: {
          deleted_threshold: 0.2,
          vacuum_min_vector_number: 1000,
          default_segment_number: 0,
          flush_interval_sec: 5,
        },
        ...(metadata === undefined ? {} : { metadata }),
      },
      payload_schema: Object.fromEntries(
        [...indexes].map(([field, type]) => [field, { data_type: type, points: points.size }]),
      ),
    }),
    createVector(name: string, { sparse }: Body) {
      if (sparse === undefined) throw new Refusal(501, 'The double adds sparse vectors only');
      if (vectors[name] !== undefined) {
        throw new Refusal(400, `Wrong input: Vector \`${name}\` already exists as a dense vector`);
      }
      const known = sparseVectors.get(name);
      if (known !== undefined && known.modifier !== sparse.modifier) {
        throw new Refusal(
          400,
          `Wrong input: Sparse vector \`${name}\` already exists with a different configuration`,
        );
      }
      sparseVectors.set(name, sparse);
    },
    createIndex({ field_name, field_schema }: Body) {
      indexes.set(
        String(field_name),
        typeof field_schema === 'object' ? field_schema.type : String(field_schema),
      );
    },
    upsert({ points: given, update_filter }: Body) {
      if (given?.length === 0) throw new Refusal(400, 'Bad request: Empty update request');
      const checked = (given as readonly WirePoint[]).map(({ id, vector, payload = {} }): DoublePoint => {
        const named = Array.isArray(vector) ? { '': vector } : vector;
        const dense = new Map<string, Float32Array>();
        const sparse = new Map<string, SparseVector>();
        for (const [name, values] of Object.entries(named)) {
          if ('indices' in values) sparse.set(name, checkSparse(name, values));
          else dense.set(name, toUnit(name, values));
        }
        return { id, vectors: dense, sparse, payload };
      });
      // All are judged by what is stored before the request, as Qdrant does.
      const writable = checked.filter(({ id }) => {
        const stored = points.get(id);
        return stored === undefined || matches(stored, update_filter, indexes);
      });
      for (const point of writable) points.set(point.id, point);
    },
    delete({ points: ids, filter }: Body) {
      const chosen = ids === undefined ? matching(filter).map(({ id }) => id) : (ids as readonly PointId[]);
      for (const id of chosen) points.delete(id);
    },
    query: (body: Body) => ({
      points: rank(body)
        .slice(0, body.limit ?? 10)
        .map((hit) => toScored(hit, body)),
    }),
    queryGroups(body: Body) {
      const groups = new Map<unknown, Ranked[]>();
      for (const hit of rank(body)) {
        for (const id of valuesAt(hit.point.payload, String(body.group_by))) {
          groups.set(id, [...(groups.get(id) ?? []), hit].slice(0, body.group_size ?? 3));
        }
      }
      const best = [...groups].slice(0, body.limit ?? 10);
      return { groups: best.map(([id, hits]) => ({ id, hits: hits.map((hit) => toScored(hit, body)) })) };
    },
    /** Each once, in an order that nobody should rely on. */
    retrieve({ ids = [], with_payload, with_vector }: Body) {
      const found = [...new Set(ids)].flatMap((id) => points.get(id) ?? []);
      return found.toReversed().map((point) => toRecord(point, with_payload, with_vector));
    },
    scroll({ filter, limit = 10, offset, with_payload, with_vector }: Body) {
      const found = matching(filter)
        .filter(({ id }) => offset === undefined || id >= offset)
        .sort((a, b) => (a.id < b.id ? -1 : 1));
      return {
        points: found.slice(0, limit).map((point) => toRecord(point, with_payload, with_vector)),
        next_page_offset: found[limit]?.id ?? null,
      };
    },
    count: ({ filter }: Body) => ({ count: matching(filter).length }),
    facet({ key = '', filter, limit = 10, exact }: Body) {
      const index = indexes.get(key);
      if (index === undefined || index === 'float') {
        throw new Refusal(400, `Wrong input: No appropriate index for faceting: \`${key}\`.`);
      }
      if (exact !== true) throw new Refusal(501, 'The double imitates exact facets only');
      const counts = new Map<unknown, number>();
      for (const { payload } of matching(filter)) {
        const values = valuesAt(payload, key).filter((value) => isIndexable(value, index));
        for (const value of new Set(values)) counts.set(value, (counts.get(value) ?? 0) + 1);
      }
      const hits = [...counts].map(([value, count]) => ({ value, count }));
      const best = hits.toSorted((a, b) => b.count - a.count || (String(a.value) < String(b.value) ? -1 : 1));
      return { hits: best.slice(0, limit) };
    },
  };
}

/** Qdrant's paths into the payload; only top-level names are imitated. */
function toPayload(
  payload: DoublePoint['payload'],
  wanted: boolean | readonly string[],
): Readonly<Record<string, unknown>> {
  if (typeof wanted === 'boolean') return payload;
  if (wanted.some((path) => !/^\w+$/.test(path))) throw new Refusal(501, 'The double imitates no paths here');
  return Object.fromEntries(Object.entries(payload).filter(([name]) => wanted.includes(name)));
}
