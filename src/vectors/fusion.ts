/**
 * The constant of reciprocal rank fusion: how little the first ranks differ from those that follow. Cormack, Clarke and
 * Büttcher, "Reciprocal rank fusion outperforms Condorcet and individual rank learning methods", SIGIR 2009.
 */
export const RANK_CONSTANT = 60;

export interface RankedList {
  /** The best first, each once. */
  readonly keys: readonly string[];
  readonly weight: number;
}

/**
 * One order out of several: the score of a key is the sum of weight / (k + rank) over the lists that it is in, with
 * ranks from 1. Only ranks count, so lists whose scores can't be compared may be fused.
 * @returns the keys with their scores, the best first; equal ones in the order of the keys
 */
export function fuseRanks(
  lists: readonly RankedList[],
  k = RANK_CONSTANT,
): readonly (readonly [key: string, score: number])[] {
  const scores = new Map<string, number>();
  for (const { keys, weight } of lists) {
    for (const [index, key] of keys.entries()) {
      scores.set(key, (scores.get(key) ?? 0) + weight / (k + index + 1));
    }
  }
  return [...scores].toSorted(([a, scoreA], [b, scoreB]) => scoreB - scoreA || (a < b ? -1 : 1));
}
