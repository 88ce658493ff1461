import { hash } from 'node:crypto';
import { pino } from 'pino';
import type { Decoder } from '../../models/decoding/decoder.ts';
import type { Embedder, EmbedderModel } from '../../models/embedder.ts';
import { parseConfig } from '../../src/config/config.ts';
import type { ImageSource } from '../../src/images/port.ts';
import { createThumbnailCache } from '../../src/thumbnails/cache.ts';
import type { PointPayload, UpsertOutcome, VectorStore } from '../../src/vectors/port.ts';
import type { WebhookSender } from '../../src/webhooks/sender.ts';
import { createWorker, type Worker, type WorkerCounts, type WorkerParts } from '../../workers/worker.ts';
import { createFakeClock, type FakeClock } from './fake-clock.ts';
import { createFakeQueue, type FakeQueue, newClaimedJob } from './fake-queue.ts';

const model: EmbedderModel = {
  id: 'fake-model',
  dimension: 2,
  fingerprint: 'f',
  hasText: false,
  preprocessing: {
    size: 1,
    fit: 'pad',
    cropFrom: 1,
    kernel: 'lanczos3',
    mean: [0, 0, 0],
    std: [1, 1, 1],
  },
};

/** Decodes by a function, and limits nothing. */
export function createFakeDecoder(decode: (bytes: Uint8Array) => Promise<Uint8Array>): Decoder {
  return {
    async prepare(bytes, _, options) {
      const pixels = await (options?.timed?.(() => decode(bytes)) ?? decode(bytes));
      return { pixels, size: 1, contentHash: hash('sha256', bytes, 'hex'), thumbnail: null };
    },
    drawThumbnail: decode,
    memoryBytes: () => 0,
    async [Symbol.asyncDispose]() {},
  };
}

/** Points by id, and what the worker did with them. */
export interface FakeStore extends VectorStore {
  readonly payloads: Map<string, PointPayload>;
  readonly sweeps: number[];
  pings: number;
}

export function createFakeStore(): FakeStore {
  const notUsed = (): never => {
    throw new Error('The worker does not use this.');
  };
  const store: FakeStore = {
    collection: 'products',
    payloads: new Map(),
    sweeps: [],
    pings: 0,
    async ensureCollection() {},
    async upsert(points) {
      for (const { id, payload } of points) store.payloads.set(id, payload);
      return points.map((): UpsertOutcome => 'indexed');
    },
    async getPayloads(ids) {
      return ids.map((id) => store.payloads.get(id) ?? null);
    },
    async sweepTombstones(olderThanMs) {
      store.sweeps.push(olderThanMs);
      return 0;
    },
    async ping() {
      store.pings++;
    },
    collectionModel: notUsed,
    search: notUsed,
    facets: notUsed,
    listProducts: notUsed,
    getProduct: notUsed,
    updateProduct: notUsed,
    deleteProduct: notUsed,
    deleteImage: notUsed,
    duplicates: notUsed,
    count: notUsed,
    async [Symbol.asyncDispose]() {},
  };
  return store;
}

export function createFakeEmbedder(): Embedder {
  return {
    model,
    parallelCalls: 1,
    start: async () => model,
    embedImages: async (images) => images.map(() => Float32Array.of(1, 0)),
    embedTexts: async () => [],
    async [Symbol.asyncDispose]() {},
  };
}

/** A worker whose surroundings take no time, on a clock that stands still. Tests replace what they need to be otherwise. */
export interface FakeWorld {
  readonly clock: FakeClock;
  readonly queue: FakeQueue;
  readonly store: FakeStore;
  readonly embedder: Embedder;
  readonly images: ImageSource;
  /** Lines of the worker's log. */
  readonly log: { readonly level: string; readonly msg: string }[];
  /** Starts the worker; `ended` holds what became of its run once it has ended. */
  start(options?: { readonly once?: boolean }): Promise<{
    readonly worker: Worker;
    readonly ended: () => WorkerCounts | Error | undefined;
  }>;
  /** Jobs by these ids, in the queue; their images are at URLs of one host. */
  enqueue(count: number, name?: string): void;
  /** The same with images on the disk. */
  enqueueFiles(count: number, name?: string): void;
}

export function createFakeWorld(
  environment: Readonly<Record<string, string>> = {},
  over: Partial<WorkerParts> = {},
): FakeWorld {
  const clock = createFakeClock();
  const queue = createFakeQueue(clock);
  const store = createFakeStore();
  const embedder = createFakeEmbedder();
  const log: { level: string; msg: string }[] = [];
  const logger = pino(
    { level: 'debug', formatters: { level: (level) => ({ level }) } },
    { write: (line: string) => void log.push(JSON.parse(line)) },
  );
  const images: ImageSource = {
    fetch: async () => new Uint8Array([1]),
    async [Symbol.asyncDispose]() {},
  };
  const decoder = createFakeDecoder(async () => new Uint8Array(3));
  const config = parseConfig({
    DATA_DIR: '/nowhere',
    MODEL: 'builtin',
    ...environment,
  });
  const webhooks: WebhookSender = {
    send: async () => 204,
    async [Symbol.asyncDispose]() {},
  };
  const thumbnails = createThumbnailCache({ ...config.thumbnails, collection: 'products', clock, logger });
  const parts = {
    config,
    logger,
    clock,
    queue,
    store,
    embedder,
    images,
    decoder,
    webhooks,
    thumbnails,
    ...over,
  };

  return {
    clock,
    queue,
    store,
    embedder,
    images,
    log,
    async start(options) {
      const worker = createWorker(parts);
      let outcome: WorkerCounts | Error | undefined;
      worker.run(options).then(
        (counts) => {
          outcome = counts;
        },
        (error: Error) => {
          outcome = error;
        },
      );
      await clock.advance(0);
      return { worker, ended: () => outcome };
    },
    enqueue(count, name = 'job') {
      queue.waiting.push(...Array.from({ length: count }, (_, index) => newClaimedJob(`${name}-${index}`)));
    },
    enqueueFiles(count, name = 'job') {
      const jobs = Array.from({ length: count }, (_, index) => newClaimedJob(`${name}-${index}`));
      queue.waiting.push(
        ...jobs.map((job) => ({
          ...job,
          data: { ...job.data, image: { kind: 'path' as const, path: `/photos/${job.id}` } },
        })),
      );
    },
  };
}
