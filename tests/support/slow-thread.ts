import { parentPort, workerData } from 'node:worker_threads';
import type { ThreadData, ThreadReply, ThreadRequest } from '../../models/embedding/embedding-thread.ts';

/** Time that this thread takes for each image. It has no model: its vectors are zero. */
export const IMAGE_MS = 100;

if (parentPort !== null) {
  const port = parentPort;
  const { dimension } = (workerData as ThreadData).definition;
  const reply = (message: ThreadReply) => port.postMessage(message);
  port.on('message', (request: ThreadRequest) => {
    if (request.kind !== 'images') return;
    const count = request.images.length;
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, count * IMAGE_MS);
    reply({ kind: 'vectors', id: request.id, vectors: new Float32Array(count * dimension) });
  });
  reply({ kind: 'ready', fingerprint: 'none', device: 'cpu', why: 'it is slow' });
}
