// Locality-sensitive hashing of directions. A bit says on which side of a random hyperplane a vector lies; two vectors
// agree in a bit with the probability 1 − angle / π: Charikar, "Similarity estimation techniques from rounding
// algorithms", STOC 2002. The hyperplanes are the rows of a fast random rotation (signs, then a Hadamard transform,
// three times): Andoni et al., "Practical and optimal LSH for angular distance", NIPS 2015.

/** How many tables of how many bits each. Vectors that share all bits of one table are compared. */
export interface TablePlan {
  readonly bits: number;
  readonly tables: number;
  /** The share of bits in which two vectors at the threshold differ, on average. */
  readonly expectedDifference: number;
}

/** Of 100 pairs at the threshold, 99 meet in a table. Closer pairs meet more often. */
const RECALL = 0.99;

const TABLE_BITS = [16, 24, 32] as const;

/** Of all tables together: with fewer, strangers could not be told from duplicates by their bits. */
const MIN_BITS = 512;

/** A rotation of fewer dimensions has too few hyperplanes to be random. */
const MIN_DIMENSIONS = 64;

/**
 * Few bits put too many strangers into a table; many bits need many tables. The cheapest plan depends on how many
 * vectors there are, and on how alike two of them are that are no duplicates.
 */
export function planTables(vectors: number, threshold: number, usualCosine: number): TablePlan {
  const near = toAgreement(threshold);
  const usual = toAgreement(Math.min(usualCosine, threshold));
  const plans = TABLE_BITS.map((bits) => {
    const needed = Math.ceil(Math.log(1 - RECALL) / Math.log(1 - near ** bits));
    const tables = Math.max(needed, Math.ceil(MIN_BITS / bits));
    const comparisons = tables * (vectors * usual ** bits);
    return {
      bits,
      tables,
      expectedDifference: 1 - near,
      cost: tables * bits + comparisons,
    };
  });
  return plans.reduce((best, plan) => (plan.cost < best.cost ? plan : best));
}

/** With less than 1, so that identical vectors need a table too. */
function toAgreement(cosine: number): number {
  return Math.min(1 - Math.acos(Math.min(1, Math.max(-1, cosine))) / Math.PI, 0.9999);
}

/** Makes a vector's keys, one per table. The same vector has the same keys in every process. */
export function createSigner(
  dimension: number,
  { bits, tables }: TablePlan,
): (vector: Float32Array) => Uint32Array {
  const size = 2 ** Math.ceil(Math.log2(Math.max(dimension, MIN_DIMENSIONS)));
  const rotations = Math.ceil((bits * tables) / size);
  const random = createRandom(20_260_101);
  const toSigns = () => Float32Array.from({ length: size }, () => (random() < 0.5 ? -1 : 1));
  // Not of the same size in the second round: sums of sparse vectors would be whole numbers, and often zero.
  const toFactors = () => toSigns().map((sign) => sign * (0.5 + random()));
  const factors = Array.from({ length: rotations }, () => [toSigns(), toFactors(), toSigns()]);
  const rotated = new Float32Array(size);
  return (vector) => {
    const keys = new Uint32Array(tables);
    let bit = 0;
    for (const rounds of factors) {
      rotated.fill(0);
      rotated.set(vector);
      for (const round of rounds) {
        for (let at = 0; at < size; at += 1) rotated[at] = (rotated[at] ?? 0) * (round[at] ?? 0);
        transform(rotated);
      }
      for (let at = 0; at < size && bit < bits * tables; at += 1, bit += 1) {
        const table = Math.floor(bit / bits);
        keys[table] = ((keys[table] ?? 0) << 1) | ((rotated[at] ?? 0) > 0 ? 1 : 0);
      }
    }
    return keys;
  };
}

/** The Walsh-Hadamard transform, in place and without its scale: only signs are used. */
function transform(values: Float32Array): void {
  for (let half = 1; half < values.length; half *= 2) {
    for (let start = 0; start < values.length; start += 2 * half) {
      for (let at = start; at < start + half; at += 1) {
        const a = values[at] ?? 0;
        const b = values[at + half] ?? 0;
        values[at] = a + b;
        values[at + half] = a - b;
      }
    }
  }
}

/** mulberry32: small, and the same sequence everywhere. */
function createRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export function countBits(value: number): number {
  let bits = value - ((value >>> 1) & 0x55555555);
  bits = (bits & 0x33333333) + ((bits >>> 2) & 0x33333333);
  return Math.imul((bits + (bits >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}
