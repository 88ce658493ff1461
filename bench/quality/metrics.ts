export interface Labelled {
  readonly label: string;
  /** Of length 1. */
  readonly vector: Float32Array;
}

export interface Retrieval {
  /** Share of queries whose nearest neighbour has their label. */
  readonly precisionAt1: number;
  /** Share of right ones among the ten nearest. */
  readonly precisionAt10: number;
  /** Mean over the queries of the average precision: the precision at each right one of the ten nearest. */
  readonly meanAveragePrecisionAt10: number;
}

const DEPTH = 10;

/** How often what is nearest by cosine has the query's label. */
export function toRetrieval(queries: readonly Labelled[], gallery: readonly Labelled[]): Retrieval {
  let first = 0;
  let right = 0;
  let averages = 0;
  for (const query of queries) {
    const nearest = toNearest(
      query.vector,
      gallery.map(({ vector }) => vector),
      DEPTH,
    );
    const isRight = nearest.map((index) => gallery[index]?.label === query.label);
    let found = 0;
    let precisions = 0;
    isRight.forEach((hit, rank) => {
      if (!hit) return;
      found++;
      precisions += found / (rank + 1);
    });
    if (isRight[0]) first++;
    right += found;
    averages += found === 0 ? 0 : precisions / found;
  }
  const count = queries.length;
  return {
    precisionAt1: first / count,
    precisionAt10: right / (count * DEPTH),
    meanAveragePrecisionAt10: averages / count,
  };
}

/** Indices of the vectors of the greatest cosines, the greatest first; the earlier of two that are equal. */
export function toNearest(
  query: Float32Array,
  vectors: readonly Float32Array[],
  count: number,
): readonly number[] {
  return vectors
    .map((vector, index) => ({ index, score: toDot(query, vector) }))
    .sort((a, b) => b.score - a.score)
    .slice(0, count)
    .map(({ index }) => index);
}

function toDot(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] ?? 0) * (b[i] ?? 0);
  return sum;
}
