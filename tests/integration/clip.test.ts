import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { loadModel } from '../../models/embedding/transformers-model.ts';
import type { ModelDefinition } from '../../models/files/model-folder.ts';

/** Random weights, real everything else: tests/fixtures/tiny-clip/make.py says how it was made. */
const folder = join(import.meta.dirname, '..', 'fixtures', 'tiny-clip');
const reference = JSON.parse(readFileSync(join(folder, 'reference.json'), 'utf8')) as {
  texts: string[];
  text_embeds: number[][];
  image_embeds: number[];
};
const SIZE = 32;
const DIMENSION = 16;
const definition: ModelDefinition = {
  id: 'tiny-clip',
  folder,
  dtype: 'fp32',
  dimension: DIMENSION,
  preprocessing: {
    size: SIZE,
    fit: 'crop',
    cropFrom: SIZE,
    kernel: 'cubic',
    mean: [0, 0, 0],
    std: [1, 1, 1],
  },
  vision: { file: 'vision_model', output: 'image_embeds', pooling: 'none' },
  text: { file: 'text_model', output: 'text_embeds', pooling: 'none' },
};
const model = await loadModel(definition, { device: 'cpu', intraOpThreads: 1 });
afterAll(() => model[Symbol.asyncDispose]());

const closeTo = (expected: readonly number[]) => expected.map((value) => expect.closeTo(value, 5));

describe('a model with a text encoder', () => {
  test('returns for words what the reference implementation returns', async () => {
    const vectors = await model.embedTexts(reference.texts);
    reference.text_embeds.forEach((expected, index) => {
      expect([...vectors.slice(index * DIMENSION, (index + 1) * DIMENSION)]).toEqual(closeTo(expected));
    });
  });

  test('returns for an image what the reference implementation returns, up to rounding to bytes', async () => {
    // The reference's input is the planes 0/3072, 1/3072, …; here they are rounded to 255ths, interleaved.
    const area = SIZE * SIZE;
    const pixels = new Uint8Array(area * 3);
    for (let channel = 0; channel < 3; channel++) {
      for (let pixel = 0; pixel < area; pixel++) {
        pixels[pixel * 3 + channel] = Math.round(((channel * area + pixel) / (3 * area)) * 255);
      }
    }
    const vector = await model.embedImages([{ size: SIZE, pixels }]);
    const cosine = reference.image_embeds.reduce(
      (sum, value, index) => sum + value * (vector[index] ?? 0),
      0,
    );
    expect(cosine).toBeGreaterThan(0.9999);
  });

  test('words of different lengths do not change each other', async () => {
    const alone = await model.embedTexts(['a']);
    const together = await model.embedTexts(['red shoe red shoe red', 'a']);
    expect([...together.slice(DIMENSION)]).toEqual(closeTo([...alone]));
  });

  test('more words than the model reads are cut, not refused', async () => {
    const vectors = await model.embedTexts(['red shoe '.repeat(100)]);
    expect(vectors).toHaveLength(DIMENSION);
  });
});
