/** What the product drawings share: seeded chance, colours and a few SVG parts. Coordinates are in a 600 × 600 box. */

/** Numbers in [0, 1) that depend on the seed alone: mulberry32, by Tommy Ettinger (public domain). */
export function createRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

export interface Style {
  /** The main colour, `#rrggbb`. */
  readonly color: string;
  /** A second colour that goes with it. */
  readonly accent: string;
  /** Which of the category's designs. */
  readonly variant: number;
  readonly random: () => number;
}

export interface Drawing {
  readonly svg: string;
  /** The ellipse under the product. */
  readonly shadow: { readonly x: number; readonly y: number; readonly rx: number };
}

/** A colour mixed with white (`amount` > 0) or black (`amount` < 0); ±1 is the pure one. */
export function shade(color: string, amount: number): string {
  const target = amount > 0 ? 255 : 0;
  const share = Math.abs(amount);
  const channels = [1, 3, 5].map((start) => Number.parseInt(color.slice(start, start + 2), 16));
  const mixed = channels.map((channel) => Math.round(channel + (target - channel) * share));
  return `#${mixed.map((channel) => channel.toString(16).padStart(2, '0')).join('')}`;
}

/** The light on an upright round body: bright left of the middle, dark at both edges. */
export function roundBody(id: string, color: string): string {
  const stops: readonly (readonly [number, number])[] = [
    [0, -0.28],
    [0.12, -0.1],
    [0.32, 0.28],
    [0.55, 0.04],
    [0.85, -0.2],
    [1, -0.36],
  ];
  return gradient(id, 'x', stops, color);
}

/** Light that falls from above. */
export function fromAbove(id: string, color: string, light = 0.16, dark = -0.18): string {
  return gradient(
    id,
    'y',
    [
      [0, light],
      [0.5, 0],
      [1, dark],
    ],
    color,
  );
}

function gradient(
  id: string,
  axis: 'x' | 'y',
  stops: readonly (readonly [number, number])[],
  color: string,
): string {
  const lines = stops.map(
    ([offset, amount]) => `<stop offset="${offset}" stop-color="${shade(color, amount)}"/>`,
  );
  const end = axis === 'x' ? 'x2="1" y2="0"' : 'x2="0" y2="1"';
  return `<linearGradient id="${id}" x1="0" y1="0" ${end}>${lines.join('')}</linearGradient>`;
}

/** A number for an SVG attribute. */
export function n(value: number): string {
  return String(Math.round(value * 10) / 10);
}

/** The choice at the index, counted round and round. */
export function pick<T>(choices: readonly [T, ...T[]], index: number): T {
  return choices[index % choices.length] ?? choices[0];
}
