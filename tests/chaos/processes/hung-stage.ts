// Loaded before a worker (`node --import`): what it does in the stage `?stage=` never returns.
import fs from 'node:fs/promises';
import { syncBuiltinESMExports } from 'node:module';
import threads from 'node:worker_threads';

const stage = new URL(import.meta.url).searchParams.get('stage');

if (stage === 'fetching') {
  // As on a mount whose server is gone.
  const { open } = fs;
  fs.open = (path, ...rest) => (String(path).endsWith('.png') ? new Promise(() => {}) : open(path, ...rest));
}

if (stage === 'embedding') {
  // Only the first thread hangs: the one that replaces it must work.
  const { Worker } = threads;
  let first = true;
  threads.Worker = class extends Worker {
    constructor(entry: string | URL, options?: threads.WorkerOptions) {
      super(first ? new URL('./hung-thread.ts', import.meta.url) : entry, options);
      first = false;
    }
  };
}

syncBuiltinESMExports();
