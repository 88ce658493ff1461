import { setTimeout as sleep } from 'node:timers/promises';
import pLimit from 'p-limit';
import { parseConfig } from '../../src/config/config.ts';
import { createContext } from '../../src/context.ts';
import { runProgram } from '../../src/program.ts';
import { createFakeDecoder, createFakeEmbedder, createFakeStore } from '../../tests/support/fake-worker.ts';
import { createWorker } from '../../workers/worker.ts';

/** What one inference takes. */
export const BATCH_MS = 60;

// A worker process for which only the queue is real: each batch takes its time, and nothing else takes any.
if (import.meta.main) {
  await runProgram(async (signal) => {
    const oneAtATime = pLimit(1);
    const embedder = createFakeEmbedder();
    await using context = await createContext(parseConfig({ ...process.env, EMBEDDING_THREADS: '1' }), {
      images: { fetch: async () => new Uint8Array(1), async [Symbol.asyncDispose]() {} },
      decoder: createFakeDecoder(async () => new Uint8Array(3)),
      store: createFakeStore(),
      embedder: {
        ...embedder,
        embedImages: (images) =>
          oneAtATime(async () => {
            await sleep(BATCH_MS);
            return embedder.embedImages(images);
          }),
      },
    });
    const worker = createWorker(context);
    signal.addEventListener('abort', () => worker.stop(), { once: true });
    await worker.run();
    return 0;
  });
}
