import { type Drawing, n, pick, type Style, shade } from './drawing.ts';

/** A wristwatch from the front: round or square case, leather or link strap, two or three hands. */
export function drawWatch({ color, accent, variant, random }: Style): Drawing {
  const metal = pick(['#c7ccd2', '#d8b25c', '#53575e'], variant);
  const dial = variant % 4 === 2 ? '#23262b' : variant % 4 === 3 ? accent : '#f8f6f0';
  const ink = variant % 4 >= 2 ? '#f4f4f0' : '#2b2e33';
  const size = 112 + random() * 12;
  const round = variant % 3 !== 1;
  const strap = 60 + random() * 8;
  const shape = (radius: number, fill: string) =>
    round
      ? `<circle cx="300" cy="300" r="${n(radius)}" fill="${fill}"/>`
      : `<rect x="${n(300 - radius)}" y="${n(300 - radius)}" width="${n(radius * 2)}" height="${n(radius * 2)}" rx="34" fill="${fill}"/>`;
  const hand = (angle: number, length: number, width: number, fill: string) =>
    `<path d="M300 300 L${n(300 + Math.sin(angle) * length)} ${n(300 - Math.cos(angle) * length)}" stroke="${fill}" stroke-width="${width}" stroke-linecap="round"/>`;
  const minute = random() * Math.PI * 2;
  const ticks = Array.from({ length: 12 }, (_, hour) => {
    const angle = (hour * Math.PI) / 6;
    const [inner, outer] = [size * 0.7, size * 0.82];
    return `<path d="M${n(300 + Math.sin(angle) * inner)} ${n(300 - Math.cos(angle) * inner)} L${n(300 + Math.sin(angle) * outer)} ${n(300 - Math.cos(angle) * outer)}" stroke="${ink}" stroke-width="${hour % 3 === 0 ? 8 : 4}"/>`;
  });
  return {
    shadow: { x: 306, y: 562, rx: 90 },
    svg: `<defs><linearGradient id="metal" x1="0" y1="0" x2="1" y2="1"><stop offset="0" stop-color="${shade(metal, 0.5)}"/><stop offset=".5" stop-color="${metal}"/><stop offset="1" stop-color="${shade(metal, -0.4)}"/></linearGradient>
        <linearGradient id="band" x1="0" y1="0" x2="1" y2="0"><stop offset="0" stop-color="${shade(color, -0.35)}"/><stop offset=".4" stop-color="${shade(color, 0.14)}"/><stop offset="1" stop-color="${shade(color, -0.4)}"/></linearGradient></defs>
      <path d="M${n(300 - strap)} 300 L${n(300 - strap * 0.82)} 52 Q300 34 ${n(300 + strap * 0.82)} 52 L${n(300 + strap)} 300 L${n(300 + strap * 0.82)} 548 Q300 570 ${n(300 - strap * 0.82)} 548 Z" fill="url(#band)"/>
      ${band(variant % 2, strap, color)}
      <rect x="${n(300 + size + 10)}" y="286" width="24" height="28" rx="6" fill="url(#metal)"/>
      ${shape(size + 18, 'url(#metal)')}${shape(size + 2, shade(metal, -0.45))}${shape(size - 2, dial)}
      ${ticks.join('')}${variant % 4 === 1 ? `<circle cx="300" cy="${n(300 + size * 0.4)}" r="22" fill="none" stroke="${ink}" stroke-width="3"/>` : ''}
      ${hand(minute / 12 + 5.2, size * 0.46, 10, ink)}${hand(minute, size * 0.68, 7, ink)}${hand(minute + 2.1, size * 0.74, 3, '#d33f31')}
      <circle cx="300" cy="300" r="9" fill="${ink}"/>
      <path d="M${n(300 - size * 0.7)} ${n(300 - size * 0.4)} Q300 ${n(300 - size * 1.1)} ${n(300 + size * 0.5)} ${n(300 - size * 0.62)} Q300 ${n(300 - size * 0.7)} ${n(300 - size * 0.7)} ${n(300 - size * 0.4)} Z" fill="#fff" opacity=".22"/>`,
  };
}

function band(kind: number, strap: number, color: string): string {
  const parts: string[] = [];
  if (kind === 0) {
    for (const side of [-1, 1])
      parts.push(
        `<path d="M${n(300 + side * strap * 0.68)} 64 L${n(300 + side * strap * 0.8)} 180 M${n(300 + side * strap * 0.8)} 420 L${n(300 + side * strap * 0.68)} 536" stroke="${shade(color, 0.45)}" stroke-width="3" stroke-dasharray="8 6"/>`,
      );
    for (const y of [470, 496, 522])
      parts.push(`<ellipse cx="300" cy="${y}" rx="6" ry="4" fill="#000" opacity=".5"/>`);
  } else {
    for (const y of [66, 90, 114, 138, 162, 440, 464, 488, 512, 536])
      parts.push(
        `<path d="M${n(300 - strap * 0.9)} ${y} H${n(300 + strap * 0.9)}" stroke="#000" stroke-width="4" opacity=".35"/>`,
      );
  }
  return parts.join('');
}
