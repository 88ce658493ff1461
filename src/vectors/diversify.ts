export interface RelevantVector {
  /** 0 to 1, or a cosine: comparable with the cosine of two vectors. */
  readonly relevance: number;
  /** L2-normalised. */
  readonly vector: Float32Array;
}

/**
 * Maximal marginal relevance: each next one is relevant and unlike those before it. Carbonell and Goldstein, "The use
 * of MMR, diversity-based reranking for reordering documents and producing summaries", SIGIR 1998.
 * @param diversity 0: by relevance alone; 1: by difference alone
 * @returns all of them, in the new order
 */
export function toDiverse<T extends RelevantVector>(
  candidates: readonly T[],
  diversity: number,
): readonly T[] {
  const left = candidates.map((candidate) => ({ candidate, similarity: 0 }));
  const chosen: T[] = [];
  while (left.length > 0) {
    let best = 0;
    let bestValue = Number.NEGATIVE_INFINITY;
    for (const [index, { candidate, similarity }] of left.entries()) {
      const value = (1 - diversity) * candidate.relevance - diversity * similarity;
      if (value > bestValue) [best, bestValue] = [index, value];
    }
    const [next] = left.splice(best, 1);
    if (next === undefined) break;
    const { candidate } = next;
    for (const other of left) {
      const cosine = toDotProduct(candidate.vector, other.candidate.vector);
      other.similarity = chosen.length === 0 ? cosine : Math.max(other.similarity, cosine);
    }
    chosen.push(candidate);
  }
  return chosen;
}

function toDotProduct(a: Float32Array, b: Float32Array): number {
  let sum = 0;
  for (let at = 0; at < a.length; at += 1) sum += (a[at] ?? 0) * (b[at] ?? 0);
  return sum;
}
