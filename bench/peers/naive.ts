import { text } from 'node:stream/consumers';
import { QdrantClient } from '@qdrant/js-client-rest';
import { env, pipeline } from '@xenova/transformers';
import { Queue, Worker } from 'bullmq';
import { v4 as uuidv4 } from 'uuid';
import type { Measured } from '../pipeline/measured.ts';
import { readOwnCpuMs } from '../support/processor-time.ts';

/** What this program reads from stdin, as JSON. */
export interface NaiveOptions {
  readonly photos: readonly string[];
  readonly redisPort: number;
  readonly qdrantUrl: string;
  readonly model: string;
  readonly modelsDir: string;
}

// What one would write with the same libraries, by their documentation: a BullMQ worker, one image at a time through
// transformers.js's own pipeline, one upsert per image.
const { photos, redisPort, qdrantUrl, model, modelsDir } = JSON.parse(
  await text(process.stdin),
) as NaiveOptions;
env.allowRemoteModels = false;
env.localModelPath = modelsDir;
const COLLECTION = 'naive';
const WARM_UP = 32;
const connection = { host: '127.0.0.1', port: redisPort };

const extract = await pipeline('image-feature-extraction', model, { dtype: 'fp32' });
const toVector = async (path: string) => {
  const output = await extract(path, { pool: false });
  const vector = Array.from(output.data as Float32Array);
  const length = Math.hypot(...vector);
  return vector.map((value) => value / length);
};
const qdrant = new QdrantClient({ url: qdrantUrl, checkCompatibility: false });
const size = (await toVector(photos[0] ?? '')).length;
await qdrant.createCollection(COLLECTION, { vectors: { image: { size, distance: 'Cosine' } } });

const queue = new Queue('images', { connection });
let left = WARM_UP;
let finished = Promise.withResolvers<void>();
const worker = new Worker<{ readonly path: string }>(
  'images',
  async ({ data: { path } }) => {
    const vector = await toVector(path);
    await qdrant.upsert(COLLECTION, {
      wait: true,
      points: [{ id: uuidv4(), vector: { image: vector }, payload: { path } }],
    });
  },
  { connection, concurrency: 32, autorun: false },
);
worker.on('completed', () => {
  left -= 1;
  if (left === 0) finished.resolve();
});
worker.on('failed', (_, error) => finished.reject(error));
const enqueue = (paths: readonly string[]) =>
  queue.addBulk(paths.map((path) => ({ name: 'image', data: { path } })));

await enqueue(Array.from({ length: WARM_UP }, (_, index) => photos[index % photos.length] ?? ''));
void worker.run();
await finished.promise;
await worker.pause();
left = photos.length;
finished = Promise.withResolvers();
await enqueue(photos);
const cpuBefore = readOwnCpuMs();
const from = performance.now();
worker.resume();
await finished.promise;
const measured: Measured = {
  images: photos.length,
  seconds: (performance.now() - from) / 1_000,
  cpuMs: (readOwnCpuMs() - cpuBefore) / photos.length,
};
console.log(JSON.stringify(measured));
await worker.close();
await queue.close();
process.exit(0);
