import { toCompact, toTime } from './format.ts';
import { html } from './html.ts';
import type { Tone } from './parts.ts';

const WIDTH = 320;
const HEIGHT = 96;

interface Point {
  readonly at: string;
  readonly value: number;
}

/** A small chart of a minute's values; its table is there for those who can't see it. */
export function Chart({ title, points, tone }: { title: string; points: readonly Point[]; tone: Tone }) {
  const max = Math.max(1, ...points.map(({ value }) => value));
  const last = points.at(-1)?.value ?? 0;
  const step = WIDTH / Math.max(1, points.length - 1);
  const line = points.map(
    ({ value }, i) => `${(i * step).toFixed(1)},${(HEIGHT - (value / max) * HEIGHT).toFixed(1)}`,
  );
  return html`<figure class=${`chart chart-${tone}`}>
    <figcaption>${title} <strong>${toCompact(last)}</strong></figcaption>
    <svg viewBox=${`0 -4 ${WIDTH} ${HEIGHT + 8}`} preserveAspectRatio="none" aria-hidden="true">
      <polygon points=${`0,${HEIGHT} ${line.join(' ')} ${WIDTH},${HEIGHT}`} />
      <polyline points=${line.join(' ')} />
    </svg>
    <div class="axis" aria-hidden="true"><span>${toTime(points[0]?.at ?? '')}</span><span>most: ${toCompact(max)}</span></div>
    <table class="unseen"><caption>${title}</caption><tbody>
      ${points.map(({ at, value }) => html`<tr><th scope="row">${toTime(at)}</th><td>${value}</td></tr>`)}
    </tbody></table>
  </figure>`;
}
