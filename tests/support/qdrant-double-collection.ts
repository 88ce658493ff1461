import {
  type DoublePoint,
  type Filter,
  matches,
  type PointId,
  Refusal,
  valuesAt,
} from './qdrant-double-filter.ts';

/** The parts of request bodies that the double reads. */
export interface Body {
  readonly vectors?: Record<string, { readonly size: number; readonly distance: string }>;
  readonly metadata?: Record<string, unknown>;
  readonly field_name?: string;
  readonly field_schema?: string;
  readonly points?: readonly unknown[];
  readonly ids?: readonly PointId[];
  readonly update_filter?: Filter;
  readonly filter?: Filter;
  readonly query?: readonly number[];
  readonly using?: string;
  readonly limit?: number;
  readonly offset?: PointId;
  readonly with_payload?: boolean;
  readonly with_vector?: boolean | readonly string[];
  readonly group_by?: string;
  readonly group_size?: number;
}

interface WirePoint {
  readonly id: PointId;
  readonly vector: Record<string, readonly number[]> | readonly number[];
  readonly payload?: Record<string, unknown>;
}

interface Ranked {
  readonly point: DoublePoint;
  readonly score: number;
}

export type DoubleCollection = ReturnType<typeof createDoubleCollection>;

/** One collection in memory, with cosine for every vector. */
export function createDoubleCollection({ vectors = {}, metadata }: Body) {
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

  function toRecord(
    { id, vectors: stored, payload }: DoublePoint,
    withPayload = true,
    withVector: Body['with_vector'] = false,
  ) {
    const chosen = [...stored].filter(([name]) => withVector === true || [withVector].flat().includes(name));
    return {
      id,
      ...(withPayload ? { payload } : {}),
      ...(withVector === false
        ? {}
        : { vector: Object.fromEntries(chosen.map(([name, vector]) => [name, [...vector]])) }),
    };
  }

  const matching = (filter: Filter | undefined): DoublePoint[] =>
    [...points.values()].filter((point) => matches(point, filter, indexes));

  /** All matching points that have the vector, best first. */
  function rank({ query, using = '', filter }: Body): Ranked[] {
    if (!Array.isArray(query)) throw new Refusal(501, 'The double imitates queries by a vector only');
    const wanted = toUnit(using, query);
    const ranked = matching(filter).flatMap((point): Ranked[] => {
      const vector = point.vectors.get(using);
      if (vector === undefined) return [];
      return [{ point, score: vector.reduce((sum, value, at) => sum + value * wanted[at]!, 0) }];
    });
    return ranked.sort((a, b) => b.score - a.score);
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
        params: { vectors },
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
    createIndex({ field_name, field_schema }: Body) {
      indexes.set(String(field_name), String(field_schema));
    },
    upsert({ points: given, update_filter }: Body) {
      if (given?.length === 0) throw new Refusal(400, 'Bad request: Empty update request');
      const checked = (given as readonly WirePoint[]).map(({ id, vector, payload = {} }): DoublePoint => {
        const named = Array.isArray(vector) ? { '': vector } : vector;
        const entries = Object.entries(named).map(([name, values]) => [name, toUnit(name, values)] as const);
        return { id, vectors: new Map(entries), payload };
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
  };
}
