import fc from 'fast-check';
import { expect, test } from 'vitest';
import { createFrameReader, toFrame } from '../../models/decoding/frames.ts';

test('requests come out as they went in, however the bytes are cut up on their way', () => {
  const request = fc.record({ id: fc.nat(), image: fc.uint8Array({ maxLength: 300 }) });
  fc.assert(
    fc.property(fc.array(request, { maxLength: 5 }), fc.integer({ min: 1, max: 64 }), (requests, size) => {
      const bytes = Buffer.concat(requests.flatMap(({ id, image }) => toFrame({ id }, image)));
      const read: unknown[] = [];
      const take = createFrameReader((header, image) =>
        read.push({ ...(header as object), image: new Uint8Array(image) }),
      );
      const chunk = Buffer.alloc(size);
      for (let at = 0; at < bytes.length; at += size) {
        // The same buffer each time, as the socket has it.
        const length = bytes.copy(chunk, 0, at, at + size);
        take(chunk.subarray(0, length));
      }
      expect(read).toEqual(requests);
    }),
  );
});
