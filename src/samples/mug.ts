import { type Drawing, n, pick, roundBody, type Style, shade } from './drawing.ts';

/** A mug with its handle to the right: straight, tapered or bellied; plain, banded, dotted or two-toned. */
export function drawMug({ color, accent, variant, random }: Style): Drawing {
  const half = 118 + random() * 14;
  const top = 190 + random() * 16;
  const foot = half * pick([1, 0.78, 0.86], variant);
  const belly = half * pick([1, 0.94, 1.14], variant);
  const left = 270;
  const bottom = 470;
  const rim = 26;
  const body = `M${n(left - half)} ${n(top)} C${n(left - belly)} ${n(top + 110)} ${n(left - belly)} ${n(bottom - 90)} ${n(left - foot)} ${bottom}
    A${n(foot)} ${n(rim * 0.9)} 0 0 0 ${n(left + foot)} ${bottom} C${n(left + belly)} ${n(bottom - 90)} ${n(left + belly)} ${n(top + 110)} ${n(left + half)} ${n(top)} Z`;
  const handleTop = top + 46;
  const handle = `M${n(left + half - 8)} ${n(handleTop)} C${n(left + half + 128)} ${n(handleTop - 14)} ${n(left + half + 122)} ${n(handleTop + 182)} ${n(left + belly - 16)} ${n(handleTop + 162)}`;
  return {
    shadow: { x: 290, y: bottom + 22, rx: 190 },
    svg: `<defs>${roundBody('mug', color)}<clipPath id="mugClip"><path d="${body}"/></clipPath></defs>
      <path d="${handle}" fill="none" stroke="${shade(color, -0.3)}" stroke-width="35" stroke-linecap="round"/>
      <path d="${handle}" fill="none" stroke="${shade(color, 0.02)}" stroke-width="28" stroke-linecap="round"/>
      <path d="${handle}" fill="none" stroke="${shade(color, 0.3)}" stroke-width="7" stroke-linecap="round" opacity=".7"/>
      <path d="${body}" fill="url(#mug)"/>
      <g clip-path="url(#mugClip)">${pattern(Math.floor(variant / 3), left, top, bottom, accent)}</g>
      <ellipse cx="${left}" cy="${n(top)}" rx="${n(half)}" ry="${rim}" fill="${shade(color, 0.35)}"/>
      <ellipse cx="${left}" cy="${n(top + 2)}" rx="${n(half - 10)}" ry="${rim - 7}" fill="${shade(color, -0.45)}"/>
      <ellipse cx="${left}" cy="${n(top + 9)}" rx="${n(half - 18)}" ry="${rim - 13}" fill="#4a2c1a"/>
      <ellipse cx="${n(left - 30)}" cy="${n(top + 8)}" rx="34" ry="5" fill="#7a4d2e" opacity=".6"/>`,
  };
}

function pattern(kind: number, x: number, top: number, bottom: number, accent: string): string {
  if (kind === 1) {
    return [0.42, 0.58]
      .map((share) => {
        const y = top + (bottom - top) * share;
        return `<path d="M${x - 170} ${n(y)} Q${x} ${n(y + 46)} ${x + 170} ${n(y)}" fill="none" stroke="${accent}" stroke-width="22" opacity=".85"/>`;
      })
      .join('');
  }
  if (kind === 2) {
    const dots: string[] = [];
    for (let row = 0; row < 4; row += 1) {
      for (let column = -2; column <= 2; column += 1) {
        const bend = 14 - column * column * 4;
        const offset = row % 2 === 0 ? 0 : 26;
        dots.push(
          `<ellipse cx="${n(x + column * 54 + offset)}" cy="${n(top + 72 + row * 54 + bend)}" rx="${n(11 - Math.abs(column))}" ry="12" fill="${accent}" opacity=".85"/>`,
        );
      }
    }
    return dots.join('');
  }
  if (kind === 3) {
    const y = (top + bottom) / 2 + 30;
    return `<path d="M${x - 180} ${n(y)} Q${x} ${n(y + 50)} ${x + 180} ${n(y)} V${bottom + 60} H${x - 180} Z" fill="${accent}" opacity=".7"/>`;
  }
  return '';
}
