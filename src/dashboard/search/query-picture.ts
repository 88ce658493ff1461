import { useEffect, useRef, useState } from 'preact/hooks';
import { html } from '../lib/html.ts';
import { readPicture } from '../lib/pictures.ts';
import type { Crop } from './state.ts';

const STEP = 0.05;
const SMALLEST = 0.1;
/** A frame for those who begin with the keyboard. */
const START: Crop = { x: 0.2, y: 0.2, width: 0.6, height: 0.6 };

/** The picture that was searched with, and the frame in it. Dragging draws a frame; arrow keys move and resize it. */
export function QueryPicture({
  id,
  crop,
  onCrop,
  onRemove,
}: {
  id: string;
  crop: Crop | undefined;
  onCrop: (crop: Crop | undefined) => void;
  onRemove: () => void;
}) {
  const address = usePictureAddress(id);
  const box = useRef<HTMLDivElement>(null);
  const from = useRef<{ x: number; y: number } | null>(null);
  // What is being drawn; it is searched with when it is done.
  const [drawn, setDrawn] = useState<Crop | undefined>(undefined);

  function toPlace({ clientX, clientY }: PointerEvent): { x: number; y: number } {
    const { left, top, width, height } = box.current?.getBoundingClientRect() ?? new DOMRect(0, 0, 1, 1);
    return { x: clamp((clientX - left) / width), y: clamp((clientY - top) / height) };
  }

  function begin(event: PointerEvent): void {
    from.current = toPlace(event);
    box.current?.setPointerCapture(event.pointerId);
    event.preventDefault();
  }

  function draw(event: PointerEvent): void {
    if (from.current === null) return;
    const to = toPlace(event);
    setDrawn({
      x: Math.min(from.current.x, to.x),
      y: Math.min(from.current.y, to.y),
      width: Math.abs(to.x - from.current.x),
      height: Math.abs(to.y - from.current.y),
    });
  }

  function end(): void {
    from.current = null;
    setDrawn(undefined);
    if (drawn !== undefined && drawn.width >= SMALLEST && drawn.height >= SMALLEST) onCrop(drawn);
  }

  function onKey(event: KeyboardEvent): void {
    const [dx, dy] = ARROWS[event.key] ?? [0, 0];
    if (event.key === 'Escape' || event.key === 'Delete') onCrop(undefined);
    else if (dx === 0 && dy === 0) return;
    else if (crop === undefined) onCrop(START);
    else onCrop(event.shiftKey ? resize(crop, dx * STEP, dy * STEP) : move(crop, dx * STEP, dy * STEP));
    event.preventDefault();
  }

  const shown = drawn ?? crop;
  return html`<section class="query" aria-label="Picture of this search">
    <div class="query-picture" ref=${box} onPointerDown=${begin} onPointerMove=${draw} onPointerUp=${end} onPointerCancel=${end}>
      ${address !== undefined && html`<img src=${address} alt="The picture that is searched with" draggable=${false} />`}
      ${
        shown !== undefined &&
        html`<span class="frame" style=${{
          left: toPercent(shown.x),
          top: toPercent(shown.y),
          width: toPercent(shown.width),
          height: toPercent(shown.height),
        }}></span>`
      }
    </div>
    <div class="query-text">
      <strong>Like this picture</strong>
      <p class="muted" id="frame-keys">Drag a frame around what you look for. On the button below, arrow keys move it, Shift and arrow keys resize it.</p>
      <div class="row">
        <button onKeyDown=${onKey} onClick=${() => onCrop(crop === undefined ? START : undefined)}
          aria-describedby="frame-keys">${crop === undefined ? 'Add a frame' : 'Remove the frame'}</button>
        <button class="quiet" onClick=${onRemove}>Remove the picture</button>
      </div>
    </div>
  </section>`;
}

const ARROWS: Readonly<Record<string, readonly [number, number]>> = {
  ArrowLeft: [-1, 0],
  ArrowRight: [1, 0],
  ArrowUp: [0, -1],
  ArrowDown: [0, 1],
};

const clamp = (value: number, max = 1): number => Math.min(Math.max(value, 0), max);
const toPercent = (fraction: number): string => `${(fraction * 100).toFixed(2)}%`;

const move = (crop: Crop, dx: number, dy: number): Crop => ({
  ...crop,
  x: clamp(crop.x + dx, 1 - crop.width),
  y: clamp(crop.y + dy, 1 - crop.height),
});

const resize = (crop: Crop, dx: number, dy: number): Crop => ({
  ...crop,
  width: Math.max(SMALLEST, clamp(crop.width + dx, 1 - crop.x)),
  height: Math.max(SMALLEST, clamp(crop.height + dy, 1 - crop.y)),
});

function usePictureAddress(id: string): string | undefined {
  const [address, setAddress] = useState<string | undefined>(undefined);
  useEffect(() => {
    let made: string | undefined;
    let isGone = false;
    readPicture(id).then(
      (picture) => {
        if (picture === undefined || isGone) return;
        made = URL.createObjectURL(picture);
        setAddress(made);
      },
      () => setAddress(undefined),
    );
    return () => {
      isGone = true;
      if (made !== undefined) URL.revokeObjectURL(made);
    };
  }, [id]);
  return address;
}
