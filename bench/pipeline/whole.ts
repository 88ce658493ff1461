import { text } from 'node:stream/consumers';
import type { ImageRef } from '../../src/catalog/product-image.ts';
import { parseConfig } from '../../src/config/config.ts';
import { createContext } from '../../src/context.ts';
import type { NewJob } from '../../src/queue/port.ts';
import { newJob } from '../../tests/support/jobs.ts';
import { createWorker } from '../../workers/worker.ts';
import { readOwnCpuMs } from '../support/processor-time.ts';
import type { Measured } from './measured.ts';

/** What this program is reads from stdin, as JSON. */
export interface WholeOptions {
  /** Paths, or addresses. */
  readonly photos: readonly string[];
  readonly environment: Readonly<Record<string, string>>;
}

// Jobs from the queue through a worker to the store, until the last one is settled. Enqueueing is not measured.
const { photos, environment } = JSON.parse(await text(process.stdin)) as WholeOptions;
const WARM_UP = 32;

const config = parseConfig({ LOG_LEVEL: 'error', ...environment });
// As in the product: without Redis, the process of the worker also answers requests.
await using context = await createContext(config, {}, { isApi: config.queue.redis === undefined });
const toJob = (photo: string, index: number): NewJob => {
  const job = newJob(`product-${index}`);
  const image: ImageRef = photo.startsWith('http')
    ? { kind: 'url', url: photo }
    : { kind: 'path', path: photo };
  return { ...job, data: { ...job.data, image } };
};

async function index(all: readonly string[]): Promise<void> {
  for (let at = 0; at < all.length; at += 500) {
    await context.queue.enqueue(all.slice(at, at + 500).map((photo, i) => toJob(photo, at + i)));
  }
}

await index(photos.slice(0, WARM_UP));
await createWorker(context).run({ once: true });
await index(photos);
const cpuBefore = readOwnCpuMs();
const from = performance.now();
const { done, failed } = await createWorker(context).run({ once: true });
const seconds = (performance.now() - from) / 1_000;
if (done !== photos.length || failed > 0)
  throw new Error(`${done} of ${photos.length} done, ${failed} failed.`);
const measured: Measured = {
  images: photos.length,
  seconds,
  cpuMs: (readOwnCpuMs() - cpuBefore) / photos.length,
};
console.log(JSON.stringify(measured));
