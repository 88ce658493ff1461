// An embedding thread that loads its model, and is blocked forever by the first images.
import { parentPort } from 'node:worker_threads';

const port = parentPort;
if (port === null) throw new Error('hung-thread.ts is the entry of a thread, not a program.');
const block = () => void Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
const on = port.on.bind(port);
port.on = ((event: string, listener: (value: unknown) => void) =>
  on(event, event === 'message' ? block : listener)) as typeof port.on;
await import('../../../models/embedding/embedding-thread.ts');
