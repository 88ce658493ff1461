import { readFileSync } from 'node:fs';
import { text } from 'node:stream/consumers';
import pLimit from 'p-limit';
import { pino } from 'pino';
import { createThreadEmbedder } from '../../models/embedding/thread-embedder.ts';
import { resolveModel } from '../../models/files/model-folder.ts';
import { prepareImage } from '../../models/prepare-image.ts';
import { parseConfig } from '../../src/config/config.ts';
import { readOwnCpuMs } from '../support/processor-time.ts';
import type { Measured } from './measured.ts';

/** How the floor is arranged. */
export interface Arrangement {
  /** Images that are decoded at once; as many threads does libuv have. */
  readonly decoders: number;
  readonly embeddingThreads: number;
  readonly intraOpThreads: number;
  readonly isSpinning: boolean;
  readonly batchSize: number;
}

/** What this program is reads from stdin, as JSON. */
export interface FloorOptions extends Arrangement {
  readonly model: string;
  readonly modelsDir: string;
  readonly photos: readonly string[];
}

// Decoding, resizing and inference of photos in memory, and nothing else: what no pipeline can be faster than.
const options = JSON.parse(await text(process.stdin)) as FloorOptions;
const { decoders, embeddingThreads, intraOpThreads, isSpinning, batchSize, photos } = options;
const config = parseConfig({ MODELS_DIR: options.modelsDir, MODELS_OFFLINE: 'true' });
const bytes = photos.map((path) => readFileSync(path));
await using embedder = createThreadEmbedder({
  ensureModel: () => resolveModel(options.model, config.model),
  device: 'cpu',
  threads: embeddingThreads,
  intraOpThreads,
  isSpinning,
  maxProcessMemoryBytes: 0,
  logger: pino({ level: 'silent' }),
});
const { preprocessing } = await embedder.start();

async function run(all: readonly Buffer[]): Promise<void> {
  const decoding = pLimit(decoders);
  const inferring = pLimit(embeddingThreads);
  const batches = Array.from({ length: Math.ceil(all.length / batchSize) }, (_, index) =>
    all.slice(index * batchSize, (index + 1) * batchSize),
  );
  // A few batches ahead: memory stays bounded, and no thread waits.
  const ahead = pLimit(embeddingThreads + Math.ceil((2 * decoders) / batchSize) + 1);
  await Promise.all(
    batches.map((batch) =>
      ahead(async () => {
        const prepared = await Promise.all(
          batch.map((image) => decoding(() => prepareImage(image, preprocessing, config.images))),
        );
        await inferring(() => embedder.embedImages(prepared));
      }),
    ),
  );
}

await run(bytes.slice(0, 2 * batchSize));
const cpuBefore = readOwnCpuMs();
const from = performance.now();
await run(bytes);
const measured: Measured = {
  images: bytes.length,
  seconds: (performance.now() - from) / 1_000,
  cpuMs: (readOwnCpuMs() - cpuBefore) / bytes.length,
};
console.log(JSON.stringify(measured));
