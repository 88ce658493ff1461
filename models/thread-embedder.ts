import { availableParallelism, totalmem } from 'node:os';
import { Worker } from 'node:worker_threads';
import { VitrineError } from '../src/errors/vitrine-error.ts';
import type { Logger } from '../src/observability/logger.ts';
import type { ModelDefinition } from './definition.ts';
import type { Embedder, EmbedderModel, PreparedImage } from './embedder.ts';
import type { ThreadData, ThreadReply, ThreadRequest } from './embedding-thread.ts';

export interface ThreadEmbedderOptions {
  readonly definition: ModelDefinition;
  /** Brings the weights where they are missing; awaited by `start` before a thread loads them. */
  readonly bringWeights?: () => Promise<void>;
  /** 0: one thread for every four processors. */
  readonly threads: number;
  /** 0: the processors divided among the threads, at most four. */
  readonly intraOpThreads: number;
  /**
   * A thread is replaced after the batch that takes the process over this. 0: four fifths of the container's limit,
   * and never where there is none.
   */
  readonly maxProcessMemoryBytes: number;
  readonly logger: Logger;
  /** The thread's program, for tests of what happens when it fails. */
  readonly entry?: URL;
}

type Work =
  | { readonly kind: 'images'; readonly images: readonly PreparedImage[] }
  | { readonly kind: 'texts'; readonly texts: readonly string[] };

interface Pending {
  resolve(vectors: Float32Array): void;
  reject(error: VitrineError): void;
}

/** A thread with a loaded model and the requests it has not answered. */
interface Thread {
  readonly worker: Worker;
  readonly pending: Map<number, Pending>;
  readonly ready: Promise<void>;
  /** It replaced a thread that was ended for its memory. */
  readonly followsRecycled: boolean;
  /** Takes no more work: it is being replaced, or has ended. */
  retired: boolean;
}

/**
 * How many threads, and how many processors each uses, by what this process may use. libuv's count respects
 * affinity and the cgroup's quota. Threads scale better than processors within one small inference; four is
 * where onnxruntime's gain flattens for models of this size.
 */
export function toThreadCounts(
  processors: number,
  threads: number,
  intraOpThreads: number,
): { threads: number; intraOpThreads: number } {
  const count = threads === 0 ? Math.max(1, Math.round(processors / 4)) : threads;
  const each =
    intraOpThreads === 0 ? Math.min(4, Math.max(1, Math.floor(processors / count))) : intraOpThreads;
  return { threads: count, intraOpThreads: each };
}

/** The memory at which a thread is replaced; Infinity: never. A constraint beyond the machine's memory is none. */
export function toMemoryLimit(askedBytes: number, constrainedBytes: number, machineBytes: number): number {
  if (askedBytes > 0) return askedBytes;
  return constrainedBytes > 0 && constrainedBytes < machineBytes
    ? constrainedBytes * 0.8
    : Number.POSITIVE_INFINITY;
}

/**
 * The Embedder that infers in threads of its own, since onnxruntime blocks the thread it runs in: heartbeats,
 * leases and downloads go on meanwhile. A crash of a thread fails only what that thread held; the next batch
 * starts a new one.
 */
export function createThreadEmbedder(options: ThreadEmbedderOptions): Embedder {
  const { definition, logger, entry = new URL('./embedding-thread.ts', import.meta.url) } = options;
  const counts = toThreadCounts(availableParallelism(), options.threads, options.intraOpThreads);
  const memoryLimit = toMemoryLimit(options.maxProcessMemoryBytes, process.constrainedMemory(), totalmem());
  const data: ThreadData = { definition, intraOpThreads: counts.intraOpThreads };
  const pool = new Set<Thread>();
  let nextId = 1;
  let recycledInVain = false;
  let stopped = false;
  let started: Promise<void> | undefined;

  const model: EmbedderModel = {
    id: definition.id,
    dimension: definition.dimension,
    fingerprint: definition.fingerprint,
    preprocessing: definition.preprocessing,
    hasText: definition.text !== null,
  };

  function startThread(followsRecycled = false): Thread {
    const worker = new Worker(entry, {
      workerData: data,
      name: 'embedding',
      // Options of the main program (test runners', debuggers') are not the thread's.
      execArgv: [],
    });
    const pending = new Map<number, Pending>();
    const ready = Promise.withResolvers<void>();
    const thread: Thread = { worker, pending, ready: ready.promise, followsRecycled, retired: false };
    // Whoever sends work waits for it; a thread that fails before is reported to them, not as unhandled.
    ready.promise.catch(() => undefined);
    const end = (error: VitrineError) => {
      thread.retired = true;
      pool.delete(thread);
      ready.reject(error);
      for (const { reject } of pending.values()) reject(error);
      pending.clear();
    };
    worker.on('message', (message: ThreadReply) => {
      if (message.kind === 'ready') return ready.resolve();
      if (message.kind === 'unusable') {
        end(new VitrineError(message.code, message.message));
        void worker.terminate();
        return;
      }
      const waiting = pending.get(message.id);
      pending.delete(message.id);
      if (message.kind === 'vectors') waiting?.resolve(message.vectors);
      else waiting?.reject(new VitrineError(message.code, message.message));
      if (pending.size === 0) recycleIfLarge(thread);
    });
    worker.on('error', (cause) => {
      logger.error({ error: cause }, 'embedding thread failed');
      end(
        new VitrineError('embedding_thread_crashed', 'The embedding thread ended with an error.', { cause }),
      );
    });
    worker.on('exit', (code) => {
      end(new VitrineError('embedding_thread_crashed', `The embedding thread ended (exit code ${code}).`));
    });
    pool.add(thread);
    return thread;
  }

  async function startAll(): Promise<void> {
    await options.bringWeights?.();
    await Promise.all(Array.from({ length: counts.threads }, () => startThread().ready));
  }

  function recycleIfLarge(thread: Thread): void {
    const rssBytes = process.memoryUsage.rss();
    const memory = { rss_bytes: rssBytes, limit_bytes: memoryLimit };
    if (rssBytes <= memoryLimit) recycledInVain = false;
    else if (thread.followsRecycled && !recycledInVain) {
      // What fills the memory isn't the thread's: replacing one after the other would only cost time.
      recycledInVain = true;
      logger.error(memory, 'memory stays over its limit with a new embedding thread');
    }
    if (thread.retired || rssBytes <= memoryLimit || recycledInVain) return;
    logger.warn(memory, 'embedding thread replaced: memory over its limit');
    thread.retired = true;
    pool.delete(thread);
    thread.worker.postMessage('stop');
    startThread(true);
  }

  function chooseThread(): Thread {
    let best: Thread | undefined;
    for (const thread of pool)
      if (best === undefined || thread.pending.size < best.pending.size) best = thread;
    if (best === undefined || (best.pending.size > 0 && pool.size < counts.threads)) return startThread();
    return best;
  }

  async function run(work: Work, count: number): Promise<readonly Float32Array[]> {
    if (stopped) throw new VitrineError('embedding_failed', 'The embedder was stopped.');
    const thread = chooseThread();
    const answer = Promise.withResolvers<Float32Array>();
    const request: ThreadRequest = { id: nextId++, ...work };
    thread.pending.set(request.id, answer);
    // Posted at once: the thread reads it when the model is loaded, and its end rejects the answer.
    thread.worker.postMessage(request);
    const vectors = await answer.promise;
    const { dimension } = definition;
    return Array.from({ length: count }, (_, index) =>
      vectors.slice(index * dimension, (index + 1) * dimension),
    );
  }

  return {
    model,
    choose: async () => model,
    start() {
      started ??= startAll().catch((error: unknown) => {
        started = undefined;
        throw error;
      });
      return started;
    },
    embedImages: (images) =>
      images.length === 0 ? Promise.resolve([]) : run({ kind: 'images', images }, images.length),
    async embedTexts(texts) {
      if (!model.hasText) {
        throw new VitrineError('text_not_supported', `The model ${model.id} knows images only, not words.`);
      }
      return run({ kind: 'texts', texts }, texts.length);
    },
    async [Symbol.asyncDispose]() {
      stopped = true;
      await Promise.all([...pool].map(({ worker }) => worker.terminate()));
    },
  };
}
