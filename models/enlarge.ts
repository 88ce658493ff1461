import type { Preprocessing } from './embedder.ts';

export interface Raster {
  /** Interleaved 8-bit RGB. */
  readonly pixels: Uint8Array;
  readonly width: number;
  readonly height: number;
}

/** A part of an image, in pixels. */
export interface Window {
  readonly left: number;
  readonly top: number;
  readonly width: number;
  readonly height: number;
}

/** Reach of a kernel in source pixels, and its weight at a distance below that (Pillow's Resample.c). */
const KERNELS = {
  linear: { reach: 1, weight: (x: number) => 1 - x },
  // Catmull-Rom: a = −0.5.
  cubic: {
    reach: 2,
    weight: (x: number) => (x < 1 ? (1.5 * x - 2.5) * x * x + 1 : ((2.5 - 0.5 * x) * x - 4) * x + 2),
  },
  lanczos3: { reach: 3, weight: (x: number) => sinc(x) * sinc(x / 3) },
} as const;

const sinc = (x: number) => (x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x));

/**
 * A window of the image enlarged to `width` × `height`. Pixel centres are mapped to pixel centres and the kernel is cut
 * at the edges, as in Pillow, which the models were trained with. libvips shifts enlarged images by half a pixel, even
 * along an axis that keeps its length: prepared pixels were 9 levels off on average. So libvips only shrinks.
 */
export function enlarge(
  source: Raster,
  width: number,
  height: number,
  window: Window,
  kernel: Preprocessing['kernel'],
): Uint8Array {
  const columns = toTaps(source.width, width, window.left, window.width, kernel);
  const rows = toTaps(source.height, height, window.top, window.height, kernel);
  const from = Math.min(...rows.map(({ first }) => first));
  const to = Math.max(...rows.map(({ first, weights }) => first + weights.length));

  const wide = new Uint8ClampedArray((to - from) * window.width * 3);
  let at = 0;
  for (let y = from; y < to; y++) {
    for (const taps of columns) {
      for (let channel = 0; channel < 3; channel++) {
        wide[at++] = weigh(source.pixels, (y * source.width + taps.first) * 3 + channel, 3, taps.weights);
      }
    }
  }
  const pixels = new Uint8ClampedArray(window.height * window.width * 3);
  const line = window.width * 3;
  at = 0;
  for (const taps of rows) {
    for (let x = 0; x < line; x++)
      pixels[at++] = weigh(wide, (taps.first - from) * line + x, line, taps.weights);
  }
  return new Uint8Array(pixels.buffer);
}

/** The source pixels that one target pixel is made of. */
interface Taps {
  readonly first: number;
  /** Their sum is 1. */
  readonly weights: Float64Array;
}

function toTaps(
  from: number,
  to: number,
  start: number,
  count: number,
  kernel: Preprocessing['kernel'],
): readonly Taps[] {
  const { reach, weight } = KERNELS[kernel];
  return Array.from({ length: count }, (_, index) => {
    const centre = ((start + index + 0.5) * from) / to;
    const first = Math.max(0, Math.floor(centre - reach + 0.5));
    const end = Math.min(from, Math.floor(centre + reach + 0.5));
    const weights = Float64Array.from({ length: end - first }, (_, tap) => {
      const distance = Math.abs(first + tap + 0.5 - centre);
      return distance < reach ? weight(distance) : 0;
    });
    const sum = weights.reduce((a, b) => a + b, 0);
    return { first, weights: weights.map((value) => value / sum) };
  });
}

function weigh(pixels: ArrayLike<number>, start: number, step: number, weights: Float64Array): number {
  let sum = 0;
  for (let tap = 0; tap < weights.length; tap++)
    sum += (weights[tap] ?? 0) * (pixels[start + tap * step] ?? 0);
  return sum;
}
