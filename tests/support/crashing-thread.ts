import { parentPort } from 'node:worker_threads';
import type { ThreadRequest } from '../../models/embedding-thread.ts';

/** The first byte of an image that ends the thread, as a fault in native code would. */
export const CRASH_BYTE = 13;

if (parentPort !== null) {
  // The first listener makes the messages flow: it must be the real one.
  await import('../../models/embedding-thread.ts');
  parentPort.on('message', (request: ThreadRequest) => {
    if (request.kind === 'images' && request.images.some(({ pixels }) => pixels[0] === CRASH_BYTE))
      process.exit(3);
  });
}
