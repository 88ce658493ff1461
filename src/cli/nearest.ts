/** The known word that the given one was most likely meant to be; null when none is near. */
export function toNearest(given: string, known: readonly string[]): string | null {
  const ranked = known
    .map((word) => ({
      word,
      distance: word.startsWith(given) && given !== '' ? 1 : editDistance(given, word),
    }))
    .sort((a, b) => a.distance - b.distance);
  const best = ranked[0];
  return best !== undefined && best.distance <= Math.max(1, Math.floor(given.length / 3)) ? best.word : null;
}

/** Insertions, deletions and substitutions that lead from one word to the other (Levenshtein, 1965). */
function editDistance(from: string, to: string): number {
  let row = Array.from({ length: to.length + 1 }, (_, index) => index);
  for (const [i, a] of [...from].entries()) {
    const next = [i + 1];
    for (const [j, b] of [...to].entries()) {
      const substitute = (row[j] ?? 0) + (a === b ? 0 : 1);
      next.push(Math.min(substitute, (row[j + 1] ?? 0) + 1, (next[j] ?? 0) + 1));
    }
    row = next;
  }
  return row[to.length] ?? 0;
}
