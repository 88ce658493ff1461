import pLimit from 'p-limit';
import { toPointId } from '../../src/catalog/product-image.ts';
import type { Context } from '../../src/context.ts';
import type { Point } from '../../src/vectors/port.ts';

const CATEGORIES = ['mug', 'chair', 'lamp', 'bag', 'shoe', 'bottle', 'watch', 't-shirt'];
const COLORS = ['red', 'blue', 'green', 'yellow', 'orange', 'purple', 'pink', 'teal', 'brown', 'navy'];
const PER_CALL = 500;
const CALLS_AT_ONCE = 4;

/** Adds products until there are so many, with random vectors: a scan takes as long for any, an index longest for these. */
export async function fill({ embedder, store }: Context, count: number): Promise<void> {
  const model = await embedder.start();
  await store.ensureCollection(model);
  const limit = pLimit(CALLS_AT_ONCE);
  const upserts = [];
  for (let first = await store.count(); first < count; first += PER_CALL) {
    const numbers = Array.from({ length: Math.min(PER_CALL, count - first) }, (_, at) => first + at);
    upserts.push(limit(() => store.upsert(numbers.map((number) => toPoint(number, model.dimension)))));
  }
  await Promise.all(upserts);
}

function toPoint(number: number, dimension: number): Point {
  const productId = `p${number}`;
  const category = CATEGORIES[number % CATEGORIES.length] ?? '';
  const color = COLORS[Math.floor(number / CATEGORIES.length) % COLORS.length] ?? '';
  const vector = Float32Array.from({ length: dimension }, () => Math.random() - 0.5);
  const length = Math.hypot(...vector);
  return {
    id: toPointId(productId, 'main'),
    vector: vector.map((value) => value / length),
    payload: {
      ...{ productId, imageId: 'main', imageRef: `https://images.example/${number}.jpg`, contentHash: '' },
      ...{ version: 1, sequence: 1, indexedAt: Date.now() },
      ...{ name: `${color} ${category}`, category, price: number % 300, currency: 'EUR', tags: [color] },
      description: `A ${color} ${category}, number ${number} of many`,
    },
  };
}
