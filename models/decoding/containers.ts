/*
 * What the containers of image files say about the work that they ask for, read without decoding anything. Each walk
 * is linear in the bytes, ends at the first thing that it can't follow, and never throws: libvips judges what is
 * damaged.
 */

/** What a JPEG asks for (ITU-T T.81, annex B). */
export interface JpegHeader {
  /** Passes over the image. */
  readonly scans: number;
  /** Of all components: 1.5 with the usual chroma subsampling, 3 without. */
  readonly coefficientsPerPixel: number;
  /** True for the kinds that cameras and shops write: Huffman-coded, baseline or progressive. */
  readonly isCommon: boolean;
}

export function readJpegHeader(bytes: Uint8Array): JpegHeader {
  let scans = 0;
  let coefficientsPerPixel = 0;
  let isCommon = true;
  let at = 2;
  for (;;) {
    while (at < bytes.length && bytes[at] !== 0xff) at++;
    while (bytes[at + 1] === 0xff) at++;
    const marker = bytes[at + 1];
    if (marker === undefined || marker === END_OF_IMAGE) break;
    at += 2;
    if (marker < FIRST_MARKER || isRestart(marker)) continue;
    if (marker === START_OF_SCAN) scans++;
    if (isStartOfFrame(marker) && coefficientsPerPixel === 0) {
      coefficientsPerPixel = toCoefficients(bytes, at);
      isCommon = marker <= PROGRESSIVE;
    }
    at += Math.max(2, toUint16(bytes, at, BIG));
  }
  return { scans, coefficientsPerPixel, isCommon };
}

const FIRST_MARKER = 0xc0;
const PROGRESSIVE = 0xc2;
const START_OF_SCAN = 0xda;
const END_OF_IMAGE = 0xd9;
const isRestart = (marker: number) => marker >= 0xd0 && marker <= 0xd8;
/** C4, C8 and CC define tables. */
const isStartOfFrame = (marker: number) =>
  marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);

/** @param at where the length of a start of frame is */
function toCoefficients(bytes: Uint8Array, at: number): number {
  const count = bytes[at + 7] ?? 0;
  const factors = Array.from({ length: count }, (_, index) => {
    const factor = bytes[at + 9 + 3 * index] ?? 0;
    return { across: factor >> 4, down: factor & 15 };
  });
  const across = Math.max(1, ...factors.map((factor) => factor.across));
  const down = Math.max(1, ...factors.map((factor) => factor.down));
  return factors.reduce((sum, factor) => sum + (factor.across * factor.down) / (across * down), 0);
}

/** Chunks of a PNG that its pixels depend on, apart from the critical ones. */
const PNG_CHUNKS = new Set(['tRNS', 'gAMA', 'cHRM', 'sBIT', 'sRGB', 'iCCP', 'cICP', 'bKGD', 'eXIf']);
/** The bit that makes the first letter of a chunk's name a small one: nothing critical. */
const ANCILLARY = 0x20;

/**
 * A PNG with the chunks that its pixels depend on and no others. Texts are left out: libpng would inflate each of them to
 * as much as 8 MB, and nobody reads them. Returns the same bytes when there is nothing to leave out.
 */
export function toEssentialPng(bytes: Uint8Array): Uint8Array {
  let essential: Buffer | null = null;
  let length = 0;
  let keptFrom = 0;
  const keep = (until: number) => {
    essential ??= Buffer.alloc(bytes.length);
    essential.set(bytes.subarray(keptFrom, until), length);
    length += until - keptFrom;
  };
  let at = 8;
  while (at + 12 <= bytes.length) {
    const end = at + 12 + toUint32(bytes, at, BIG);
    if (end > bytes.length) break;
    const isAncillary = ((bytes[at + 4] ?? 0) & ANCILLARY) !== 0;
    if (isAncillary && !PNG_CHUNKS.has(toLatin1(bytes, at + 4, at + 8))) {
      keep(at);
      keptFrom = end;
    }
    at = end;
  }
  if (keptFrom === 0) return bytes;
  keep(bytes.length);
  return (essential ?? Buffer.alloc(0)).subarray(0, length);
}

/** Frames of a GIF (GIF89a specification). Stops counting when they are more than `max`. */
export function countGifFrames(bytes: Uint8Array, max: number): number {
  let frames = 0;
  let at = 13 + toColourTableBytes(bytes[10]);
  while (frames <= max) {
    const introducer = bytes[at];
    if (introducer === 0x2c) {
      frames++;
      at = skipSubBlocks(bytes, at + 11 + toColourTableBytes(bytes[at + 9]));
    } else if (introducer === 0x21) at = skipSubBlocks(bytes, at + 2);
    else break;
  }
  return frames;
}

function toColourTableBytes(flags = 0): number {
  return (flags & 0x80) === 0 ? 0 : 3 * 2 ** ((flags & 7) + 1);
}

function skipSubBlocks(bytes: Uint8Array, start: number): number {
  let at = start;
  for (let size = bytes[at]; size !== undefined && size !== 0; size = bytes[at]) at += 1 + size;
  return at + 1;
}

/** Frames of an animated WebP; 0 for a still one. Stops counting when they are more than `max`. */
export function countWebpFrames(bytes: Uint8Array, max: number): number {
  let frames = 0;
  for (let at = 12; at + 8 <= bytes.length && frames <= max; ) {
    if (toLatin1(bytes, at, at + 4) === 'ANMF') frames++;
    const size = toUint32(bytes, at + 4, LITTLE);
    at += 8 + size + (size % 2);
  }
  return frames;
}

/** Pages of a TIFF or BigTIFF. Stops counting when they are more than `max`, so a chain in a circle has an end. */
export function countTiffPages(bytes: Uint8Array, max: number): number {
  const isLittle = bytes[0] === 0x49;
  const isBig = bytes[2] === 43 || bytes[3] === 43;
  const toOffset = (at: number) => (isBig ? toUint64(bytes, at, isLittle) : toUint32(bytes, at, isLittle));
  let pages = 0;
  let at = toOffset(isBig ? 8 : 4);
  while (at > 0 && at < bytes.length && pages <= max) {
    pages++;
    at = isBig
      ? toOffset(at + 8 + 20 * toUint64(bytes, at, isLittle))
      : toOffset(at + 2 + 12 * toUint16(bytes, at, isLittle));
  }
  return pages;
}

const BIG = false;
const LITTLE = true;

/** Bytes beyond the end count as zeros. */
function toUint16(bytes: Uint8Array, at: number, isLittle: boolean): number {
  const [first, second] = isLittle ? [at + 1, at] : [at, at + 1];
  return (bytes[first] ?? 0) * 0x100 + (bytes[second] ?? 0);
}

function toUint32(bytes: Uint8Array, at: number, isLittle: boolean): number {
  const [high, low] = isLittle ? [at + 2, at] : [at, at + 2];
  return toUint16(bytes, high, isLittle) * 0x1_0000 + toUint16(bytes, low, isLittle);
}

function toUint64(bytes: Uint8Array, at: number, isLittle: boolean): number {
  const [high, low] = isLittle ? [at + 4, at] : [at, at + 4];
  return toUint32(bytes, high, isLittle) * 0x1_0000_0000 + toUint32(bytes, low, isLittle);
}

function toLatin1(bytes: Uint8Array, start: number, end: number): string {
  return String.fromCharCode(...bytes.subarray(start, end));
}
