import { type Drawing, fromAbove, n, pick, type Style, shade } from './drawing.ts';

/** A handbag: trapezoid, round-cornered or boxy, with a flap, a zip, a panel or a bow of stitches. */
export function drawBag({ color, accent, variant, random }: Style): Drawing {
  const top = 252 + random() * 14;
  const bottom = 498 + random() * 8;
  const halfTop = pick([138, 170, 186], variant);
  const halfBottom = pick([196, 180, 186], variant);
  const corner = pick([26, 64, 14], variant);
  const body = `M${n(300 - halfTop)} ${n(top)} H${n(300 + halfTop)} L${n(300 + halfBottom)} ${n(bottom - corner)} Q${n(300 + halfBottom)} ${n(bottom)} ${n(300 + halfBottom - corner)} ${n(bottom)}
    H${n(300 - halfBottom + corner)} Q${n(300 - halfBottom)} ${n(bottom)} ${n(300 - halfBottom)} ${n(bottom - corner)} Z`;
  const rise = 84 + random() * 30;
  const grip = `M214 ${n(top + 16)} C214 ${n(top - rise - 50)} 386 ${n(top - rise - 50)} 386 ${n(top + 16)}`;
  const leather = shade(color, -0.35);
  return {
    shadow: { x: 300, y: bottom + 4, rx: 200 },
    svg: `<defs>${fromAbove('bag', color, 0.18, -0.22)}<clipPath id="bagClip"><path d="${body}"/></clipPath></defs>
      <path d="${grip}" transform="translate(10 -10)" fill="none" stroke="${shade(color, -0.55)}" stroke-width="15"/>
      <path d="${body}" fill="url(#bag)"/>
      <g clip-path="url(#bagClip)">${front(variant % 4, top, bottom, color, accent)}
        <path d="M${n(300 + halfTop - 30)} ${n(top)} L${n(300 + halfBottom + 4)} ${n(bottom)} V${n(top)} Z" fill="#000" opacity=".14"/></g>
      <path d="${body}" fill="none" stroke="${leather}" stroke-width="4"/>
      <path d="${grip}" fill="none" stroke="${leather}" stroke-width="18" stroke-linecap="round"/>
      <path d="${grip}" fill="none" stroke="${shade(color, 0.1)}" stroke-width="7" stroke-linecap="round"/>
      ${[214, 386].map((x) => `<circle cx="${x}" cy="${n(top + 20)}" r="12" fill="#d9b45b" stroke="#8a6a24" stroke-width="3"/>`).join('')}`,
  };
}

function front(kind: number, top: number, bottom: number, color: string, accent: string): string {
  if (kind === 0) {
    return `<path d="M90 ${n(top - 4)} H510 L486 ${n(top + 104)} Q300 ${n(top + 158)} 114 ${n(top + 104)} Z" fill="${shade(color, 0.12)}" stroke="${shade(color, -0.35)}" stroke-width="4"/>
      <rect x="276" y="${n(top + 104)}" width="48" height="40" rx="8" fill="#d9b45b" stroke="#8a6a24" stroke-width="3"/>`;
  }
  if (kind === 1) {
    return `<path d="M100 ${n(top + 40)} H500" stroke="#d9b45b" stroke-width="9" stroke-dasharray="6 4"/><rect x="412" y="${n(top + 36)}" width="12" height="40" rx="6" fill="#d9b45b"/>
      <rect x="210" y="${n(top + 100)}" width="180" height="96" rx="14" fill="none" stroke="${shade(color, -0.35)}" stroke-width="4" stroke-dasharray="9 5"/>`;
  }
  if (kind === 2) {
    return `<rect x="80" y="${n(bottom - 84)}" width="440" height="90" fill="${accent}" opacity=".85"/><path d="M80 ${n(bottom - 84)} H520" stroke="#fff" stroke-width="3" stroke-dasharray="9 6" opacity=".6"/>`;
  }
  return `<rect x="258" y="${n(top)}" width="84" height="${n(bottom - top)}" fill="${accent}" opacity=".75"/><path d="M258 ${n(top)} V${n(bottom)} M342 ${n(top)} V${n(bottom)}" stroke="#fff" stroke-width="3" stroke-dasharray="9 6" opacity=".6"/>`;
}
