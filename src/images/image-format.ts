/** What Vitrine decodes. */
export const IMAGE_FORMATS = ['jpeg', 'png', 'webp', 'avif', 'gif', 'tiff'] as const;
export type ImageFormat = (typeof IMAGE_FORMATS)[number];

/** Brands of the ISO base media file format that announce AV1 pictures (AV1 Image File Format 1.1, section 9). */
const AVIF_BRANDS = ['avif', 'avis'];

/**
 * The format by the file's first bytes; null for anything else, HEIC and SVG included. File names and
 * Content-Type headers are often wrong and may be set by a stranger, so they are never asked.
 */
export function toImageFormat(bytes: Uint8Array): ImageFormat | null {
  if (startsWith(bytes, [0xff, 0xd8, 0xff])) return 'jpeg';
  if (startsWith(bytes, [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a])) return 'png';
  const head = toLatin1(bytes, 0, 12);
  if (head.startsWith('GIF87a') || head.startsWith('GIF89a')) return 'gif';
  if (head.startsWith('RIFF') && head.endsWith('WEBP')) return 'webp';
  // The last two are BigTIFF.
  if (['II*\0', 'MM\0*', 'II+\0', 'MM\0+'].some((magic) => head.startsWith(magic))) return 'tiff';
  if (toBrands(bytes).some((brand) => AVIF_BRANDS.includes(brand))) return 'avif';
  return null;
}

/** True when the bytes begin as an HTML or XML document does: mostly an error page in an image's place. */
export function looksLikeMarkup(bytes: Uint8Array): boolean {
  const head = toLatin1(bytes, 0, 256).replace(/^\u00ef\u00bb\u00bf/, '');
  return /^\s*<(?:!doctype|html|head|body|\?xml|!--|svg)/i.test(head);
}

/** A `ftyp` box of an image has a handful of brands. */
const MAX_FTYP_BYTES = 256;

/**
 * The major brand and the compatible ones of a `ftyp` box (ISO/IEC 14496-12, section 4.3); none unless the whole box is
 * there and sound. Four letters at the right place are not enough: `<!--ftypavif-->` is the start of a document.
 */
function toBrands(bytes: Uint8Array): readonly string[] {
  if (toLatin1(bytes, 4, 8) !== 'ftyp') return [];
  const boxBytes = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0);
  if (boxBytes < 16 || boxBytes > Math.min(bytes.length, MAX_FTYP_BYTES) || boxBytes % 4 !== 0) return [];
  const brands = [toLatin1(bytes, 8, 12)];
  for (let at = 16; at < boxBytes; at += 4) brands.push(toLatin1(bytes, at, at + 4));
  return brands.every((brand) => /^[\x20-\x7e]{4}$/.test(brand)) ? brands : [];
}

function startsWith(bytes: Uint8Array, magic: readonly number[]): boolean {
  return magic.every((byte, index) => bytes[index] === byte);
}

function toLatin1(bytes: Uint8Array, start: number, end: number): string {
  return String.fromCharCode(...bytes.subarray(start, end));
}
