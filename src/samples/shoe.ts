import { type Drawing, fromAbove, n, type Style, shade } from './drawing.ts';

/** A trainer from the side, toe to the right: low or high, with waves, a zigzag, a panel or a badge. */
export function drawShoe({ color, accent, variant, random }: Style): Drawing {
  const high = variant % 3 === 1 ? 70 : variant % 3 === 2 ? 24 : 0;
  const collar = 236 - high;
  const sole = 428 + random() * 8;
  const thick = 34 + random() * 16;
  const upper = `M92 ${n(sole)} C80 ${n(sole - 70)} 92 ${n(collar + 70)} 104 ${collar} Q118 ${collar - 16} 134 ${collar - 4} Q186 ${collar + 34} 236 ${collar - 2} Q252 ${collar - 10} 262 ${collar + 6}
    C300 ${n(300 - high * 0.2)} 366 336 432 350 C500 364 528 392 526 ${n(sole)} Z`;
  return {
    shadow: { x: 306, y: sole + thick + 2, rx: 236 },
    svg: `<defs>${fromAbove('upper', color, 0.2, -0.2)}<clipPath id="shoeClip"><path d="${upper}"/></clipPath></defs>
      <path d="M110 ${collar + 4} Q186 ${collar + 44} 256 ${collar + 2} L248 ${collar - 18} Q186 ${collar + 4} 122 ${collar - 14} Z" fill="${shade(color, -0.6)}"/>
      <path d="${upper}" fill="url(#upper)" stroke="${shade(color, -0.35)}" stroke-width="3"/>
      <g clip-path="url(#shoeClip)">${side(variant % 4, accent, sole)}
        <path d="M420 340 Q396 400 432 ${n(sole + 4)} H540 V340 Z" fill="${shade(color, -0.14)}" opacity=".75"/>
        <path d="M84 ${n(sole - 92)} Q150 ${n(sole - 60)} 148 ${n(sole + 4)} H70 Z" fill="${accent}" opacity=".85"/></g>
      ${laces(collar, high)}
      <path d="M82 ${n(sole - 8)} H530 Q544 ${n(sole + thick * 0.5)} 516 ${n(sole + thick)} H106 Q76 ${n(sole + thick)} 82 ${n(sole - 8)} Z" fill="#f4f2ec" stroke="#c9c5ba" stroke-width="2.5"/>
      <path d="M84 ${n(sole + thick * 0.45)} H532" stroke="${accent}" stroke-width="5" opacity=".8"/>
      <path d="M92 ${n(sole + thick - 7)} H524" stroke="#7d786c" stroke-width="9" stroke-dasharray="16 7"/>`,
  };
}

function side(kind: number, accent: string, sole: number): string {
  if (kind === 0) {
    return `<path d="M150 ${n(sole - 22)} Q280 ${n(sole - 70)} 420 ${n(sole - 20)}" fill="none" stroke="${accent}" stroke-width="15"/><path d="M150 ${n(sole - 54)} Q270 ${n(sole - 104)} 400 ${n(sole - 56)}" fill="none" stroke="${accent}" stroke-width="9"/>`;
  }
  if (kind === 1) {
    return `<path d="M176 ${n(sole - 24)} L222 ${n(sole - 74)} L262 ${n(sole - 24)} L304 ${n(sole - 74)} L346 ${n(sole - 24)}" fill="none" stroke="${accent}" stroke-width="15" stroke-linejoin="round" stroke-linecap="round"/>`;
  }
  if (kind === 2)
    return `<path d="M206 ${n(sole + 4)} L262 300 L338 352 L370 ${n(sole + 4)} Z" fill="${accent}" opacity=".6"/>`;
  return `<circle cx="264" cy="372" r="34" fill="${accent}" opacity=".9"/><circle cx="264" cy="372" r="16" fill="#fff" opacity=".8"/>`;
}

function laces(collar: number, high: number): string {
  const lines: string[] = [];
  const count = high > 50 ? 6 : 4;
  for (let index = 0; index < count; index += 1) {
    const share = index / (count - 1);
    const x = 268 + share * 108;
    const y = collar + 34 + share * (312 - collar);
    lines.push(
      `<path d="M${n(x - 20)} ${n(y + 16)} L${n(x + 18)} ${n(y - 8)}" stroke="#fbfaf6" stroke-width="9" stroke-linecap="round"/>`,
    );
  }
  return lines.join('');
}
