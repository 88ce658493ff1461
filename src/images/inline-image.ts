import { VitrineError } from '../errors/vitrine-error.ts';
import { tooLarge } from './read-limited.ts';

/**
 * The bytes of a base64 text (RFC 4648, section 4), with or without padding; without line breaks, in canonical form.
 * @throws VitrineError `image_too_large`, `image_corrupt`
 */
export function decodeInlineImage(base64: string, maxBytes: number): Uint8Array {
  const padded = base64 + '='.repeat((4 - (base64.length % 4)) % 4);
  const padding = padded.endsWith('==') ? 2 : padded.endsWith('=') ? 1 : 0;
  if ((padded.length / 4) * 3 - padding > maxBytes) throw tooLarge(maxBytes);
  const bytes = Buffer.from(base64, 'base64');
  // Node skips what isn't base64: only a text that comes out again as it went in was valid.
  if (bytes.toString('base64') !== padded) {
    throw new VitrineError('image_corrupt', 'The inline image is not valid base64.', {
      suggestion: 'Encode the bytes as standard base64, without line breaks or a data: prefix.',
    });
  }
  return bytes;
}
