import { Socket } from 'node:net';

/*
 * Requests on a pipe: the lengths of a header and of an image, the header in JSON, the image. Node's own messages between
 * processes copy an image several times on each side.
 */

const LENGTHS_BYTES = 8;
const CHUNK_BYTES = 65_536;

/** What to write, in this order. */
export function toFrame(header: object, image: Uint8Array): readonly Uint8Array[] {
  const json = Buffer.from(JSON.stringify(header));
  const lengths = Buffer.alloc(LENGTHS_BYTES);
  lengths.writeUInt32LE(json.length, 0);
  lengths.writeUInt32LE(image.length, 4);
  return [lengths, json, image];
}

/** Calls `onFrame` for each frame that arrives at the file descriptor. */
export function readFrames(fd: number, onFrame: (header: unknown, image: Buffer) => void): void {
  const take = createFrameReader(onFrame);
  const buffer = Buffer.alloc(CHUNK_BYTES);
  const callback = (bytes: number, chunk: Uint8Array) => {
    take(chunk.subarray(0, bytes));
    return true;
  };
  new Socket({ fd, readable: true, writable: false, onread: { buffer, callback } }).resume();
}

/** @returns what takes the bytes as they arrive; they may be overwritten afterwards */
export function createFrameReader(
  onFrame: (header: unknown, image: Buffer) => void,
): (chunk: Uint8Array) => void {
  let parts: readonly [lengths: Buffer, header?: Buffer, image?: Buffer] = [Buffer.alloc(LENGTHS_BYTES)];
  /** Bytes of the last of the parts. */
  let filled = 0;

  function nextPart(): void {
    const [lengths, header, image] = parts;
    filled = 0;
    if (header === undefined) parts = [lengths, Buffer.alloc(lengths.readUInt32LE(0))];
    else if (image === undefined) parts = [lengths, header, Buffer.alloc(lengths.readUInt32LE(4))];
    else {
      parts = [Buffer.alloc(LENGTHS_BYTES)];
      onFrame(JSON.parse(header.toString()), image);
    }
  }

  return (chunk) => {
    let taken = 0;
    for (;;) {
      const part = parts.at(-1) ?? parts[0];
      const some = chunk.subarray(taken, taken + part.length - filled);
      part.set(some, filled);
      taken += some.length;
      filled += some.length;
      if (filled < part.length) return;
      nextPart();
    }
  };
}
