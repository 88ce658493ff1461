import { type Drawing, fromAbove, n, type Style, shade } from './drawing.ts';

/** A T-shirt laid flat: round or V neck, sleeves short or longer; plain, striped, printed or with a pocket. */
export function drawTShirt({ color, accent, variant, random }: Style): Drawing {
  const half = 128 + random() * 14;
  const hem = 486 + random() * 14;
  const sleeve = variant % 2 === 0 ? 0 : 20;
  const neck = variant % 3 === 1 ? 'L300 206 L358 130' : 'C258 178 342 178 358 130';
  const collar = variant % 3 === 1 ? 'M242 130 L300 206 L358 130' : 'M242 130 C258 178 342 178 358 130';
  const outline = `M242 130 L${n(300 - half - 34)} 168 L${n(300 - half - 92 - sleeve)} ${264 + sleeve} L${n(300 - half - 26 - sleeve / 2)} ${302 + sleeve} L${n(300 - half)} 262
    C${n(300 - half + 8)} 340 ${n(300 - half + 4)} 420 ${n(300 - half - 2)} ${n(hem)} Q300 ${n(hem + 16)} ${n(300 + half + 2)} ${n(hem)}
    C${n(300 + half - 4)} 420 ${n(300 + half - 8)} 340 ${n(300 + half)} 262 L${n(300 + half + 26 + sleeve / 2)} ${302 + sleeve} L${n(300 + half + 92 + sleeve)} ${264 + sleeve}
    L${n(300 + half + 34)} 168 L358 130 ${variant % 3 === 1 ? 'L300 206 L242 130' : 'C342 178 258 178 242 130'} Z`;
  const fold = shade(color, -0.24);
  return {
    shadow: { x: 300, y: hem + 18, rx: 150 },
    svg: `<defs>${fromAbove('shirt', color, 0.1, -0.12)}<clipPath id="shirtClip"><path d="${outline}"/></clipPath></defs>
      <path d="M242 130 Q300 112 358 130 ${neck.startsWith('L') ? 'L300 206' : 'C342 178 258 178 242 130'} Z" fill="${shade(color, -0.42)}"/>
      <path d="${outline}" fill="url(#shirt)" stroke="${shade(color, -0.2)}" stroke-width="2.5" stroke-linejoin="round"/>
      <g clip-path="url(#shirtClip)">${print(variant % 4, accent, hem)}
        <path d="M${n(300 - half)} 262 C${n(300 - half + 30)} 224 ${n(300 - half + 2)} 186 ${n(300 - half - 22)} 172" fill="none" stroke="${fold}" stroke-width="3" opacity=".7"/>
        <path d="M${n(300 + half)} 262 C${n(300 + half - 30)} 224 ${n(300 + half - 2)} 186 ${n(300 + half + 22)} 172" fill="none" stroke="${fold}" stroke-width="3" opacity=".7"/>
        <path d="M${n(300 - half + 14)} 300 Q${n(300 - half + 52)} 380 ${n(300 - half + 26)} ${n(hem)} L${n(300 - half - 10)} ${n(hem + 20)} V300 Z" fill="#000" opacity=".07"/>
        <path d="M${n(300 + half - 10)} 290 Q${n(300 + half - 66)} 390 ${n(300 + half - 30)} ${n(hem)} L${n(300 + half + 10)} ${n(hem + 20)} V290 Z" fill="#000" opacity=".1"/>
        <path d="M${n(300 - half - 10)} ${n(hem - 12)} Q300 ${n(hem + 4)} ${n(300 + half + 10)} ${n(hem - 12)}" fill="none" stroke="${fold}" stroke-width="2.5" stroke-dasharray="7 4"/>
      </g>
      <path d="${collar}" fill="none" stroke="${shade(color, -0.3)}" stroke-width="13"/>
      <path d="${collar}" fill="none" stroke="${shade(color, 0.12)}" stroke-width="9"/>`,
  };
}

function print(kind: number, accent: string, hem: number): string {
  if (kind === 1) {
    const lines: string[] = [];
    for (let y = 236; y < hem; y += 46)
      lines.push(`<rect x="60" y="${y}" width="480" height="18" fill="${accent}" opacity=".8"/>`);
    return lines.join('');
  }
  if (kind === 2) {
    return `<circle cx="300" cy="304" r="54" fill="${accent}"/><path d="M254 320 L286 276 L304 300 L320 282 L346 320 Z" fill="#fff" opacity=".85"/>`;
  }
  if (kind === 3) {
    return `<path d="M340 244 H400 V300 Q370 320 340 300 Z" fill="${accent}" opacity=".8"/><path d="M340 256 H400" stroke="#fff" stroke-width="2" opacity=".6"/>`;
  }
  return '';
}
