import { toCompact, toTime } from './format.ts';
import { html } from './html.ts';
import type { Tone } from './parts.ts';

const MINUTE_MS = 60_000;
const MINUTES = 60;
const HEIGHT = 96;
/** Of a bar that is almost nothing, so that it can be told from nothing. */
const LEAST = 2;

interface Point {
  readonly at: string;
  readonly value: number;
}

/**
 * The last hour, a bar for each minute; those that were not noted stay empty. Its table is there for those who can't see
 * it.
 */
export function Chart({ title, points, tone }: { title: string; points: readonly Point[]; tone: Tone }) {
  const max = Math.max(0, ...points.map(({ value }) => value));
  const last = points.at(-1);
  const end = Date.parse(last?.at ?? '');
  const bars = points.map(({ at, value }) => ({
    x: MINUTES - 1 - (end - Date.parse(at)) / MINUTE_MS,
    height: value === 0 ? 0 : Math.max(LEAST, (value / max) * HEIGHT),
  }));
  return html`<figure class=${`chart chart-${tone}`}>
    <figcaption>${title} <strong>${toCompact(last?.value ?? 0)}</strong></figcaption>
    <svg viewBox=${`0 0 ${MINUTES} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true">
      ${bars.map(({ x, height }) => html`<rect x=${x + 0.1} y=${HEIGHT - height} width="0.8" height=${height} />`)}
    </svg>
    <div class="axis" aria-hidden="true"><span>an hour ago</span><span>most: ${toCompact(max)}</span></div>
    <table class="unseen"><caption>${title}</caption><tbody>
      ${points.map(({ at, value }) => html`<tr><th scope="row">${toTime(at)}</th><td>${value}</td></tr>`)}
    </tbody></table>
  </figure>`;
}
