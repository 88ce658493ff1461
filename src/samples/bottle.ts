import { type Drawing, n, pick, roundBody, type Style, shade } from './drawing.ts';

/** A drinking bottle: slim, wide or waisted, with a flat, a domed or a loop cap; labelled, ringed or plain. */
export function drawBottle({ color, accent, variant, random }: Style): Drawing {
  const half = pick([66, 84, 74], variant) + random() * 8;
  const waist = variant % 3 === 2 ? half * 0.82 : half;
  const shoulder = 206 + random() * 22;
  const neck = 36;
  const bottom = 536;
  const body = `M${300 - neck} 132 V160 C${300 - neck} 186 ${n(300 - half)} ${n(shoulder - 22)} ${n(300 - half)} ${n(shoulder + 14)} C${n(300 - waist)} 330 ${n(300 - waist)} 390 ${n(300 - half)} 450
    V${bottom - 22} Q${n(300 - half)} ${bottom} ${n(300 - half + 24)} ${bottom} H${n(300 + half - 24)} Q${n(300 + half)} ${bottom} ${n(300 + half)} ${bottom - 22} V450
    C${n(300 + waist)} 390 ${n(300 + waist)} 330 ${n(300 + half)} ${n(shoulder + 14)} C${n(300 + half)} ${n(shoulder - 22)} ${300 + neck} 186 ${300 + neck} 160 V132 Z`;
  return {
    shadow: { x: 300, y: bottom - 2, rx: half + 34 },
    svg: `<defs>${roundBody('bottle', color)}${roundBody('cap', variant % 2 === 0 ? '#3d4147' : accent)}<clipPath id="bottleClip"><path d="${body}"/></clipPath></defs>
      ${cap(variant % 3)}
      <path d="${body}" fill="url(#bottle)"/>
      <g clip-path="url(#bottleClip)">${label(variant % 4, accent)}
        <rect x="${n(300 - half * 0.55)}" y="150" width="${n(half * 0.17)}" height="380" rx="8" fill="#fff" opacity=".35"/>
        <rect x="150" y="${bottom - 26}" width="300" height="40" fill="${shade(color, -0.5)}" opacity=".5"/></g>`,
  };
}

function cap(kind: number): string {
  const lid = '<rect x="256" y="78" width="88" height="62" rx="10" fill="url(#cap)"/>';
  if (kind === 0)
    return `${lid}<path d="M256 98 H344 M256 112 H344 M256 126 H344" stroke="#000" stroke-width="2" opacity=".25"/>`;
  if (kind === 1) {
    return '<path d="M254 140 V112 Q254 58 300 58 Q346 58 346 112 V140 Z" fill="url(#cap)"/><rect x="250" y="122" width="100" height="20" rx="6" fill="url(#cap)"/>';
  }
  return `<path d="M268 88 V66 Q268 40 300 40 Q332 40 332 66 V88" fill="none" stroke="url(#cap)" stroke-width="14"/>${lid}`;
}

function label(kind: number, accent: string): string {
  if (kind === 1) {
    return `<rect x="150" y="316" width="300" height="112" fill="#f7f3e8"/><rect x="150" y="330" width="300" height="8" fill="${accent}"/><circle cx="300" cy="378" r="24" fill="${accent}"/><rect x="150" y="408" width="300" height="8" fill="${accent}"/>`;
  }
  if (kind === 2) {
    return [262, 292, 470]
      .map((y) => `<rect x="150" y="${y}" width="300" height="14" fill="${accent}" opacity=".85"/>`)
      .join('');
  }
  if (kind === 3)
    return `<path d="M150 420 Q240 360 300 420 T450 420 V560 H150 Z" fill="${accent}" opacity=".75"/>`;
  return '';
}
