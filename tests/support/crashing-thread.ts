import { parentPort } from 'node:worker_threads';
import type { ThreadRequest } from '../../models/embedding/embedding-thread.ts';

/** The first byte of an image that ends the thread, as a fault in native code would. */
export const CRASH_BYTE = 13;
/** The first byte of an image whose inference never returns. */
export const HANG_BYTE = 14;

if (parentPort !== null) {
  // The first listener makes the messages flow: it must be the real one.
  await import('../../models/embedding/embedding-thread.ts');
  parentPort.on('message', (request: ThreadRequest) => {
    const first = request.kind === 'images' ? request.images.map(({ pixels }) => pixels[0]) : [];
    if (first.includes(CRASH_BYTE)) process.exit(3);
    if (first.includes(HANG_BYTE)) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
  });
}
