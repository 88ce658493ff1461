import { type DocumentWords, PREFIX_LENGTHS, type QueryWords } from '../words.ts';

/** The name of the sparse vector. Qdrant multiplies each value by the inverse document frequency of its index. */
export const WORDS_VECTOR = 'words';

export interface SparseVector {
  readonly indices: number[];
  readonly values: number[];
}

/**
 * BM25's saturation: the tenth occurrence of a word says less than the first. Its other parameter, the length of the
 * text, is left out: it would need the mean length of all texts, which changes with every point.
 */
const SATURATION = 1.2;

/** How much less a word counts that only begins with what was typed. */
const PREFIX_WEIGHT = 0.3;

/** A product's words: a value per stem, and one per beginning of each word, so that a prefix is found like a word. */
export function toSparseVector({ stems, words }: DocumentWords): SparseVector {
  const values = new Map<number, number>();
  for (const [stem, count] of stems) {
    add(values, toStemIndex(stem), (count * (SATURATION + 1)) / (count + SATURATION));
  }
  const prefixes = new Set<string>();
  for (const word of words) {
    const longest = Math.min(word.length, PREFIX_LENGTHS.max);
    for (let length = PREFIX_LENGTHS.min; length <= longest; length += 1) prefixes.add(word.slice(0, length));
  }
  for (const prefix of prefixes) add(values, toPrefixIndex(prefix), 1);
  return toVector(values);
}

/** Null when there is no word to search with. */
export function toSparseQuery({ stems, prefix }: QueryWords): SparseVector | null {
  const values = new Map<number, number>();
  for (const stem of stems) add(values, toStemIndex(stem), 1);
  if (prefix !== null) add(values, toPrefixIndex(prefix), PREFIX_WEIGHT);
  return values.size === 0 ? null : toVector(values);
}

const toStemIndex = (stem: string): number => hash(`=${stem}`);
const toPrefixIndex = (prefix: string): number => hash(`^${prefix}`);

/** Two words may get the same index: one pair in four billion. They are then found for each other. */
function add(values: Map<number, number>, index: number, value: number): void {
  values.set(index, (values.get(index) ?? 0) + value);
}

function toVector(values: ReadonlyMap<number, number>): SparseVector {
  return { indices: [...values.keys()], values: [...values.values()] };
}

/** FNV-1a, 32 bits, over UTF-16 code units. Stored vectors depend on it: another hash is another analyzer revision. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let at = 0; at < text.length; at += 1) {
    value = Math.imul(value ^ text.charCodeAt(at), 0x01000193);
  }
  return value >>> 0;
}
