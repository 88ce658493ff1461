import { describe, expect, it } from 'vitest';
import { looksLikeMarkup, toImageFormat } from '../../src/images/image-format.ts';

const bytes = (...parts: (string | number[])[]) =>
  Buffer.concat(
    parts.map((part) => (typeof part === 'string' ? Buffer.from(part, 'latin1') : Buffer.from(part))),
  );
const ftyp = (major: string, ...compatible: string[]) =>
  bytes([0, 0, 0, 16 + 4 * compatible.length], 'ftyp', major, [0, 0, 0, 0], ...compatible);

describe('toImageFormat', () => {
  it.each([
    ['jpeg', bytes([0xff, 0xd8, 0xff, 0xe0])],
    ['png', bytes([0x89], 'PNG\r\n', [0x1a, 0x0a])],
    ['gif', bytes('GIF89a')],
    ['webp', bytes('RIFF', [4, 0, 0, 0], 'WEBP')],
    ['tiff', bytes('II*', [0], 'rest')],
    ['tiff', bytes('MM', [0], '*rest')],
    ['tiff', bytes('II+', [0], 'rest')],
    ['avif', ftyp('avif', 'mif1')],
    ['avif', ftyp('mif1', 'miaf', 'avif')],
  ])('knows %s', (format, file) => {
    expect(toImageFormat(file)).toBe(format);
  });

  it.each([
    ['HEIC', ftyp('heic', 'mif1')],
    ['MP4', ftyp('isom', 'iso2', 'mp41')],
    ['brands after the box', bytes(ftyp('heic', 'mif1').toString('latin1'), 'avif')],
    ['WAVE', bytes('RIFF', [4, 0, 0, 0], 'WAVE')],
    ['BMP', bytes('BM', [0, 0, 0, 0])],
    ['SVG', bytes('<svg xmlns="http://www.w3.org/2000/svg"/>')],
    ['nothing', bytes()],
    ['a stump', bytes([0, 0, 0, 0], 'ftyp')],
    ['SVG that says it is AVIF', bytes('<!--ftypavif--><svg xmlns="http://www.w3.org/2000/svg"/>')],
    ['a box longer than the file', bytes([0, 0, 0, 64], 'ftypavif', [0, 0, 0, 0], 'mif1')],
    ['a box to the end of the file', bytes([0, 0, 0, 0], 'ftypavif', [0, 0, 0, 0], 'mif1')],
    ['a box with half a brand', bytes([0, 0, 0, 18], 'ftypavif', [0, 0, 0, 0], 'mi')],
    ['a box with a brand that is none', ftyp('avif', '\u0001\u0002\u0003\u0004')],
  ])('refuses %s', (_, file) => {
    expect(toImageFormat(file)).toBeNull();
  });
});

it('recognises documents that stand in for an image', () => {
  expect(looksLikeMarkup(bytes('\u00ef\u00bb\u00bf\r\n <!DOCTYPE html>'))).toBe(true);
  expect(looksLikeMarkup(bytes('<?xml version="1.0"?><Error/>'))).toBe(true);
  expect(looksLikeMarkup(bytes('{"error": "<html>"}'))).toBe(false);
});
