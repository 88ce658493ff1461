import { Socket } from 'node:net';

/*
 * Messages on a pipe between two processes: the length of a header, the header in JSON with the lengths of the parts, the
 * parts. Node's own messages copy an image several times on each side.
 */

const LENGTH_BYTES = 4;
const MAX_HEADER_BYTES = 65_536;
const CHUNK_BYTES = 65_536;

interface Envelope {
  readonly header: unknown;
  readonly lengths: readonly number[];
}

/** What to write, in this order. */
export function toFrame(header: object, ...parts: readonly Uint8Array[]): readonly Uint8Array[] {
  const envelope: Envelope = { header, lengths: parts.map(({ length }) => length) };
  const json = Buffer.from(JSON.stringify(envelope));
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeUInt32LE(json.length);
  return [length, json, ...parts];
}

export function writeFrame(
  pipe: Socket,
  header: object,
  parts: readonly Uint8Array[],
  onWritten?: () => void,
): void {
  const buffers = toFrame(header, ...parts);
  // One call to the system for all of them.
  pipe.cork();
  for (const bytes of buffers.slice(0, -1)) pipe.write(bytes);
  pipe.write(buffers.at(-1) ?? '', onWritten);
  pipe.uncork();
}

type OnFrame = (header: unknown, parts: readonly Buffer[]) => void;

/** The pipe at the file descriptor; calls `onFrame` for each frame that arrives there. */
export function openPipe(fd: number, onFrame: OnFrame): Socket {
  const take = createFrameReader(onFrame);
  const buffer = Buffer.alloc(CHUNK_BYTES);
  const callback = (bytes: number, chunk: Uint8Array) => {
    take(chunk.subarray(0, bytes));
    return true;
  };
  return new Socket({ fd, readable: true, writable: true, onread: { buffer, callback } }).resume();
}

/** @returns what takes the bytes as they arrive, and throws for nonsense; they may be overwritten afterwards */
export function createFrameReader(onFrame: OnFrame): (chunk: Uint8Array) => void {
  const buffers = listBuffers(onFrame);
  let current = buffers.next().value;
  let filled = 0;
  return (chunk) => {
    let taken = 0;
    while (taken < chunk.length) {
      const some = chunk.subarray(taken, taken + current.length - filled);
      current.set(some, filled);
      taken += some.length;
      filled += some.length;
      while (filled === current.length) {
        current = buffers.next().value;
        filled = 0;
      }
    }
  };
}

/** The buffers to fill, one after the other. */
function* listBuffers(onFrame: OnFrame): Generator<Buffer, never> {
  for (;;) {
    const length = Buffer.alloc(LENGTH_BYTES);
    yield length;
    const headerBytes = length.readUInt32LE();
    if (headerBytes > MAX_HEADER_BYTES) throw new Error('What arrived is not a frame.');
    const json = Buffer.alloc(headerBytes);
    yield json;
    const { header, lengths } = JSON.parse(json.toString()) as Envelope;
    const parts = lengths.map((bytes) => Buffer.allocUnsafeSlow(bytes));
    yield* parts;
    onFrame(header, parts);
  }
}
