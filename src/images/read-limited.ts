import { VitrineError } from '../errors/vitrine-error.ts';

/**
 * All bytes of the chunks; `onBytes` is called with the size of each chunk.
 * @throws VitrineError `image_too_large` as soon as they are more than `maxBytes`, whatever a header promised
 */
export async function readLimited(
  chunks: AsyncIterable<Uint8Array>,
  maxBytes: number,
  onBytes: (bytes: number) => void = () => undefined,
): Promise<Uint8Array> {
  const kept: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of chunks) {
    bytes += chunk.byteLength;
    if (bytes > maxBytes) throw tooLarge(maxBytes);
    onBytes(chunk.byteLength);
    kept.push(chunk);
  }
  return Buffer.concat(kept, bytes);
}

export function tooLarge(maxBytes: number): VitrineError {
  return new VitrineError('image_too_large', `The image has more than ${maxBytes} bytes.`);
}
