import { describe, expect, it } from 'vitest';
import { toDiverse } from '../../src/vectors/diversify.ts';
import { fuseRanks } from '../../src/vectors/fusion.ts';
import { applyChanges, mergePatch, NO_CHANGES } from '../../src/vectors/product-data.ts';
import { createSigner, planTables } from '../../src/vectors/signatures.ts';

describe('reciprocal rank fusion', () => {
  it('adds weight / (k + rank) over the lists', () => {
    const fused = fuseRanks([
      { keys: ['a', 'b', 'c'], weight: 1 },
      { keys: ['c', 'a'], weight: 2 },
    ]);
    expect(fused.map(([key]) => key)).toEqual(['c', 'a', 'b']);
    const scores = new Map(fused);
    expect(scores.get('a')).toBeCloseTo(1 / 61 + 2 / 62, 12);
    expect(scores.get('c')).toBeCloseTo(1 / 63 + 2 / 61, 12);
    expect(scores.get('b')).toBeCloseTo(1 / 62, 12);
  });

  it('orders equal scores by key, and takes another constant', () => {
    const lists = [
      { keys: ['b'], weight: 1 },
      { keys: ['a'], weight: 1 },
    ];
    expect(fuseRanks(lists, 1)).toEqual([
      ['a', 0.5],
      ['b', 0.5],
    ]);
    expect(fuseRanks([])).toEqual([]);
  });
});

describe('maximal marginal relevance', () => {
  const at = (degrees: number, relevance: number) => ({
    degrees,
    relevance,
    vector: Float32Array.of(Math.cos((degrees * Math.PI) / 180), Math.sin((degrees * Math.PI) / 180)),
  });
  const order = (diversity: number) =>
    toDiverse([at(0, 0.9), at(5, 0.89), at(90, 0.5), at(180, 0.02)], diversity).map(({ degrees }) => degrees);

  it('goes from relevance alone to difference alone', () => {
    expect(order(0)).toEqual([0, 5, 90, 180]);
    expect(order(0.5)[1]).toBe(180);
    expect(order(0.3).slice(0, 2)).toEqual([0, 90]);
    expect(order(1)).toHaveLength(4);
    expect(toDiverse([], 0.5)).toEqual([]);
  });
});

describe('changes of product data', () => {
  it('may be merged in any order', () => {
    const patches = [
      [{ price: 1, name: 'one' }, 10],
      [{ price: 2, metadata: { a: 1, b: 1 } }, 20],
      [{ price: null, metadata: { b: null } }, 30],
    ] as const;
    const orders = [
      [0, 1, 2],
      [2, 1, 0],
      [1, 0, 2],
      [1, 2, 0, 1],
    ];
    for (const order of orders) {
      const merged = order.reduce((changes, index) => {
        const [patch, sequence] = patches[index] ?? patches[0];
        return mergePatch(changes, patch, sequence);
      }, NO_CHANGES);
      const data = { price: 9, name: 'job', metadata: { a: 9, b: 9, c: 9 } };
      expect(applyChanges(data, 5, merged)).toEqual({ name: 'one', metadata: { a: 1, c: 9 } });
      expect(applyChanges(data, 25, merged)).toEqual({ name: 'job', metadata: { a: 9, c: 9 } });
      expect(applyChanges(data, 30, merged)).toBe(data);
    }
  });

  it('may name keys that objects have of their own', () => {
    const patch = { metadata: JSON.parse('{"__proto__": 1, "constructor": 2}') as Record<string, unknown> };
    const { metadata } = applyChanges({ metadata: { a: 1 } }, 1, mergePatch(NO_CHANGES, patch, 2));
    expect(JSON.stringify(metadata)).toBe('{"a":1,"__proto__":1,"constructor":2}');
  });
});

describe('signatures', () => {
  it('are the same for the same vector, and meet in a table nearly always at the threshold', () => {
    const dimension = 384;
    const cosine = 0.96;
    const plan = planTables(100_000, cosine, 0.6);
    const sign = createSigner(dimension, plan);
    const random = createRandom();
    const toUnit = (values: Float32Array) => values.map((value) => value / Math.hypot(...values));
    const draw = () =>
      toUnit(Float32Array.from({ length: dimension }, () => random() + random() + random() - 1.5));
    let met = 0;
    const pairs = 200;
    for (let pair = 0; pair < pairs; pair += 1) {
      const [one, noise] = [draw(), draw()];
      const along = one.reduce((sum, value, at) => sum + value * (noise[at] ?? 0), 0);
      const across = toUnit(noise.map((value, at) => value - along * (one[at] ?? 0)));
      const other = one.map((value, at) => cosine * value + Math.sqrt(1 - cosine ** 2) * (across[at] ?? 0));
      const [keys, otherKeys] = [sign(one), sign(other)];
      expect(sign(one)).toEqual(keys);
      if (keys.some((key, table) => key === otherKeys[table])) met += 1;
    }
    expect(met / pairs).toBeGreaterThan(0.95);
  });

  it('need more tables for a lower threshold, and more bits when all vectors are alike', () => {
    expect(planTables(1_000, 0.85, 0.1).tables).toBeGreaterThan(planTables(1_000, 0.97, 0.1).tables);
    expect(planTables(100_000, 0.97, 0.85).bits).toBeGreaterThan(planTables(100_000, 0.97, 0.1).bits);
  });
});

function createRandom(): () => number {
  let state = 7;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}
