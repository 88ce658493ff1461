import { type Drawing, fromAbove, n, pick, roundBody, type Style, shade } from './drawing.ts';

/** A table lamp that is lit: conical, drum or dome shade on a slim, ball or vase foot. */
export function drawLamp({ color, accent, variant, random }: Style): Drawing {
  const shadeTop = 84 + random() * 16;
  const shadeBottom = 270 + random() * 12;
  const halfTop = pick([62, 112, 30], variant);
  const halfBottom = 138 + random() * 12;
  const metal = variant % 2 === 0 ? '#c9a35a' : '#5a5d63';
  const cone = `M${n(300 - halfTop)} ${n(shadeTop)} ${variant % 3 === 2 ? `C${n(300 - 120)} ${n(shadeTop + 10)} ${n(300 - halfBottom)} ${n(shadeTop + 90)} ${n(300 - halfBottom)} ${n(shadeBottom)}` : `L${n(300 - halfBottom)} ${n(shadeBottom)}`}
    A${n(halfBottom)} 22 0 0 0 ${n(300 + halfBottom)} ${n(shadeBottom)} ${variant % 3 === 2 ? `C${n(300 + halfBottom)} ${n(shadeTop + 90)} ${n(300 + 120)} ${n(shadeTop + 10)} ${n(300 + halfTop)} ${n(shadeTop)}` : `L${n(300 + halfTop)} ${n(shadeTop)}`}
    A${n(halfTop)} ${n(halfTop * 0.13)} 0 0 0 ${n(300 - halfTop)} ${n(shadeTop)} Z`;
  return {
    shadow: { x: 300, y: 532, rx: 120 },
    svg: `<defs>${roundBody('shade', color)}${roundBody('metal', metal)}${roundBody('foot', accent)}${fromAbove('plate', metal)}
        <radialGradient id="glow" cx=".5" cy=".62" r=".6"><stop offset="0" stop-color="#fff3c4" stop-opacity=".75"/><stop offset="1" stop-color="#fff3c4" stop-opacity="0"/></radialGradient></defs>
      <ellipse cx="300" cy="${n(shadeBottom + 20)}" rx="230" ry="120" fill="url(#glow)" opacity=".8"/>
      <rect x="293" y="${n(shadeBottom - 10)}" width="14" height="${n(500 - shadeBottom)}" fill="url(#metal)"/>
      ${foot(variant % 4)}
      <ellipse cx="300" cy="522" rx="96" ry="17" fill="${shade(metal, -0.35)}"/><ellipse cx="300" cy="514" rx="96" ry="17" fill="url(#plate)"/>
      ${variant % 4 === 0 ? '<rect x="293" y="490" width="14" height="24" fill="url(#metal)"/>' : ''}
      <path d="${cone}" fill="url(#shade)"/><path d="${cone}" fill="url(#glow)"/>
      <ellipse cx="300" cy="${n(shadeBottom)}" rx="${n(halfBottom)}" ry="22" fill="${shade(color, -0.25)}"/>
      <ellipse cx="300" cy="${n(shadeBottom + 2)}" rx="${n(halfBottom - 7)}" ry="17" fill="#fff1c9"/>
      <ellipse cx="300" cy="${n(shadeTop)}" rx="${n(halfTop)}" ry="${n(halfTop * 0.13)}" fill="${shade(color, 0.4)}"/>`,
  };
}

function foot(kind: number): string {
  if (kind === 1) return '<circle cx="300" cy="446" r="66" fill="url(#foot)"/>';
  if (kind === 2) {
    return '<path d="M282 350 C282 400 224 420 224 466 C224 500 262 514 300 514 C338 514 376 500 376 466 C376 420 318 400 318 350 Z" fill="url(#foot)"/>';
  }
  if (kind === 3) {
    return '<circle cx="300" cy="370" r="30" fill="url(#foot)"/><circle cx="300" cy="430" r="38" fill="url(#foot)"/><circle cx="300" cy="486" r="30" fill="url(#foot)"/>';
  }
  return '';
}
