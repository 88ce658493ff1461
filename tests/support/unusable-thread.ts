import { parentPort, threadId } from 'node:worker_threads';

/** Of three threads started one after the other, one can't load the model; the others load it. */
if (threadId % 3 === 0)
  parentPort?.postMessage({ kind: 'unusable', code: 'model_unavailable', message: 'No memory.' });
else await import('../../models/embedding/embedding-thread.ts');
