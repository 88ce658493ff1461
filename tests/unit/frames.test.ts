import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createFrameReader, toFrame } from '../../models/decoding/frames.ts';

test('frames come out as they went in, however the bytes are cut up on their way', () => {
  const part = fc.uint8Array({ maxLength: 300 });
  const frame = fc.record({ id: fc.nat(), parts: fc.array(part, { maxLength: 3 }) });
  fc.assert(
    fc.property(fc.array(frame, { maxLength: 5 }), fc.integer({ min: 1, max: 64 }), (frames, size) => {
      const bytes = Buffer.concat(frames.flatMap(({ id, parts }) => toFrame({ id }, ...parts)));
      const read: unknown[] = [];
      const take = createFrameReader((header, parts) =>
        read.push({ ...(header as object), parts: parts.map((bytes) => new Uint8Array(bytes)) }),
      );
      const chunk = Buffer.alloc(size);
      for (let at = 0; at < bytes.length; at += size) {
        // The same buffer each time, as the socket has it.
        const length = bytes.copy(chunk, 0, at, at + size);
        take(chunk.subarray(0, length));
      }
      expect(read).toEqual(frames);
    }),
  );
});
