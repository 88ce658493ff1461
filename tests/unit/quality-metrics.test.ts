import { expect, it } from 'vitest';
import { toNearest, toRetrieval } from '../../bench/quality/metrics.ts';

const at = (degrees: number, label: string) => {
  const radians = (degrees * Math.PI) / 180;
  return { label, vector: Float32Array.from([Math.cos(radians), Math.sin(radians)]) };
};

it('counts what is nearest by cosine', () => {
  const gallery = [
    at(0, 'a'),
    at(20, 'b'),
    at(40, 'a'),
    ...Array.from({ length: 7 }, (_, i) => at(90 + i, 'b')),
  ];
  expect(
    toNearest(
      at(1, '').vector,
      gallery.map(({ vector }) => vector),
      3,
    ),
  ).toEqual([0, 1, 2]);
  // Ranks of the right ones: 1 and 3.
  expect(toRetrieval([at(1, 'a')], gallery)).toEqual({
    precisionAt1: 1,
    precisionAt10: 0.2,
    meanAveragePrecisionAt10: (1 + 2 / 3) / 2,
  });
  expect(toRetrieval([at(1, 'c')], gallery)).toEqual({
    precisionAt1: 0,
    precisionAt10: 0,
    meanAveragePrecisionAt10: 0,
  });
});
