import { type Drawing, fromAbove, n, type Style, shade } from './drawing.ts';

/** A chair seen from the front and a little above: slatted, panelled or rounded back, wooden or metal legs. */
export function drawChair({ color, accent, variant, random }: Style): Drawing {
  const half = 108 + random() * 10;
  const back = 96 + random() * 18;
  const seat = 320;
  const floor = 540;
  const legs = variant % 2 === 0 ? '#a9794b' : '#4b4f55';
  const width = variant % 2 === 0 ? 20 : 13;
  const spread = variant % 3 === 0 ? 18 : 4;
  const leg = (fromX: number, toX: number, fromY: number, toY: number, tone: number) =>
    `<path d="M${n(fromX - width / 2)} ${fromY} H${n(fromX + width / 2)} L${n(toX + width * 0.32)} ${toY} H${n(toX - width * 0.32)} Z" fill="${shade(legs, tone)}"/>`;
  return {
    shadow: { x: 300, y: floor - 8, rx: 160 },
    svg: `<defs>${fromAbove('seat', color, 0.22, -0.12)}${fromAbove('back', color, 0.14, -0.2)}${fromAbove('wood', legs, 0.2, -0.2)}</defs>
      ${leg(300 - half + 26, 300 - half + 20 - spread / 2, seat, floor - 46, -0.3)}${leg(300 + half - 26, 300 + half - 20 + spread / 2, seat, floor - 46, -0.3)}
      ${backrest(variant % 4, half, back, seat, accent)}
      <path d="M${n(300 - half + 6)} ${seat - 44} H${n(300 + half - 6)} L${n(300 + half + 22)} ${seat + 22} Q${n(300 + half + 24)} ${seat + 34} ${n(300 + half + 8)} ${seat + 34} H${n(300 - half - 8)} Q${n(300 - half - 24)} ${seat + 34} ${n(300 - half - 22)} ${seat + 22} Z" fill="url(#seat)"/>
      <path d="M${n(300 - half - 22)} ${seat + 20} H${n(300 + half + 22)} Q${n(300 + half + 24)} ${seat + 38} ${n(300 + half + 8)} ${seat + 40} H${n(300 - half - 8)} Q${n(300 - half - 24)} ${seat + 38} ${n(300 - half - 22)} ${seat + 20} Z" fill="${shade(color, -0.34)}"/>
      ${leg(300 - half + 2, 300 - half - 10 - spread, seat + 38, floor, 0.05)}${leg(300 + half - 2, 300 + half + 10 + spread, seat + 38, floor, -0.1)}
      <path d="M${n(300 - half - 2)} 452 H${n(300 + half + 2)}" stroke="${shade(legs, -0.15)}" stroke-width="${n(width * 0.5)}"/>`,
  };
}

function backrest(kind: number, half: number, top: number, seat: number, accent: string): string {
  const left = 300 - half + 8;
  const right = 300 + half - 8;
  const posts = `<path d="M${n(left)} ${n(top + 20)} L${n(left + 4)} ${seat - 30} M${n(right)} ${n(top + 20)} L${n(right - 4)} ${seat - 30}" stroke="url(#back)" stroke-width="18" stroke-linecap="round"/>`;
  const frame = `<rect x="${n(left - 9)}" y="${n(top)}" width="18" height="${n(seat - 30 - top)}" rx="9" fill="url(#back)"/><rect x="${n(right - 9)}" y="${n(top)}" width="18" height="${n(seat - 30 - top)}" rx="9" fill="url(#back)"/>`;
  if (kind === 0) {
    const slats = [0.3, 0.5, 0.7].map(
      (share) =>
        `<rect x="${n(left + (right - left) * share - 8)}" y="${n(top + 20)}" width="16" height="${n(seat - 50 - top)}" fill="url(#back)"/>`,
    );
    return `${frame}${slats.join('')}<rect x="${n(left - 9)}" y="${n(top)}" width="${n(right - left + 18)}" height="40" rx="14" fill="url(#back)"/>`;
  }
  if (kind === 1) {
    return `${frame}<rect x="${n(left - 12)}" y="${n(top)}" width="${n(right - left + 24)}" height="126" rx="18" fill="url(#back)"/><rect x="${n(left + 14)}" y="${n(top + 22)}" width="${n(right - left - 28)}" height="82" rx="12" fill="${accent}" opacity=".55"/>`;
  }
  if (kind === 2) {
    return `${posts}<path d="M${n(left - 6)} ${seat - 40} V${n(top + 84)} Q${n(left - 6)} ${n(top)} 300 ${n(top)} Q${n(right + 6)} ${n(top)} ${n(right + 6)} ${n(top + 84)} V${seat - 40} Z" fill="url(#back)"/>`;
  }
  const rails = [0, 58, 116].map(
    (offset) =>
      `<rect x="${n(left - 9)}" y="${n(top + offset)}" width="${n(right - left + 18)}" height="34" rx="12" fill="url(#back)"/>`,
  );
  return `${frame}${rails.join('')}`;
}
