import { once } from 'node:events';
import { availableParallelism, totalmem } from 'node:os';
import { setTimeout as delay } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { VitrineError } from '../../src/errors/vitrine-error.ts';
import type { Logger } from '../../src/observability/logger.ts';
import type { Embedder, EmbedderModel, PreparedImage } from '../embedder.ts';
import { type ModelDefinition, readWeightsBytes } from '../files/model-folder.ts';
import type { DeviceSetting } from './device.ts';
import type { ThreadData, ThreadReply, ThreadRequest } from './embedding-thread.ts';

export interface ThreadEmbedderOptions {
  /** Finds the model and puts its weights on the disk. Called by `start`; the signal aborts on disposal. */
  ensureModel(signal: AbortSignal): Promise<ModelDefinition>;
  readonly device: DeviceSetting;
  /** 0: by the processors and the size of the model, see `toThreadCount`. */
  readonly threads: number;
  /** 0: the same, see `toIntraOpThreads`. */
  readonly intraOpThreads: number;
  /** See `LoadOptions`; the pipeline benchmark tries both. Default: true. */
  readonly isSpinning?: boolean | undefined;
  /** True: a single call is to be quick. False: many calls together are. Default: false. */
  readonly isForSearch?: boolean | undefined;
  /**
   * A thread is replaced after the batch that takes `memoryBytes` over this. 0: four fifths of the container's limit;
   * never where there is no such limit.
   */
  readonly maxProcessMemoryBytes: number;
  /** What is held against that limit; without it: the memory of this process. */
  memoryBytes?(): number;
  /** Time for one inference call with up to eight images or texts; larger calls get more in proportion. */
  readonly inferenceTimeoutMs?: number;
  readonly logger: Logger;
  /** The thread's program, for tests of what happens when it fails. */
  readonly entry?: URL;
}

/** Generous: eight images take the larger models a few seconds on one slow processor. */
const INFERENCE_TIMEOUT_MS = 60_000;
const ITEMS_PER_TIMEOUT = 8;
/** Generous as well: the weights may lie on a slow network drive. */
const LOAD_TIMEOUT_MS = 300_000;
/**
 * How long a thread may take to end by itself. To terminate one in native code, such as while it loads a model, ends the
 * whole process: the native code throws into a thread that is no more.
 */
const STOP_TIMEOUT_MS = 5_000;
/** A thread that hangs in native code never terminates, so nothing waits for it longer than this. */
const TERMINATE_TIMEOUT_MS = 2_000;

/**
 * The Embedder that infers in threads of its own, because onnxruntime blocks the thread it runs in: heartbeats, leases
 * and downloads go on. A thread that crashes or hangs fails only the calls it holds; the next call starts a new one.
 */
export function createThreadEmbedder(options: ThreadEmbedderOptions): Embedder {
  const {
    logger,
    inferenceTimeoutMs = INFERENCE_TIMEOUT_MS,
    memoryBytes = process.memoryUsage.rss,
  } = options;
  const entry = options.entry ?? new URL('./embedding-thread.ts', import.meta.url);
  const memoryLimit = toMemoryLimit(options.maxProcessMemoryBytes, process.constrainedMemory(), totalmem());
  const disposed = new AbortController();
  const threads = new Set<Thread>();
  const replacements = new WeakSet<Thread>();
  let threadCount = 1;
  let intraOpThreads = 1;
  let replacingHelps = true;
  let loading: Promise<Loaded> | undefined;
  let loaded: Loaded | undefined;

  /** Loads the model in all threads, once for all callers; again after a failure. */
  function load(): Promise<Loaded> {
    loading ??= loadOnce().catch((error: unknown) => {
      loading = undefined;
      throw error;
    });
    return loading;
  }

  async function loadOnce(): Promise<Loaded> {
    const definition = await options.ensureModel(disposed.signal);
    disposed.signal.throwIfAborted();
    const processors = availableParallelism();
    const weightsBytes = await readWeightsBytes(definition);
    threadCount = options.threads || toThreadCount(processors, weightsBytes, options.isForSearch);
    intraOpThreads = options.intraOpThreads || toIntraOpThreads(processors, threadCount, weightsBytes);
    const started = Array.from({ length: threadCount }, () => addThread(definition));
    try {
      const [first] = await Promise.all(started.map(({ ready }) => ready));
      const { fingerprint = '', device, why } = first ?? {};
      logger.info({ device }, `inference runs on ${device}: ${why}`);
      const { id, dimension, preprocessing, text } = definition;
      loaded = { definition, model: { id, dimension, fingerprint, preprocessing, hasText: text !== null } };
      return loaded;
    } catch (error) {
      // The threads that did start would stay, and the next attempt would start more.
      await Promise.all(started.map((thread) => thread.end(toStopped())));
      throw error;
    }
  }

  function addThread(definition: ModelDefinition): Thread {
    const thread = startThread({
      entry,
      data: { definition, device: options.device, intraOpThreads, isSpinning: options.isSpinning },
      fingerprint: loaded?.model.fingerprint,
      inferenceTimeoutMs,
      logger,
      onIdle: () => replaceIfLarge(thread, definition),
      onEnd: () => threads.delete(thread),
    });
    threads.add(thread);
    return thread;
  }

  /** The thread with the least to do; a new one when all are busy and one is missing. */
  function chooseThread(definition: ModelDefinition): Thread {
    const [best] = [...threads].sort((a, b) => a.pendingCalls() - b.pendingCalls());
    const isFull = threads.size >= threadCount;
    return best !== undefined && (isFull || best.pendingCalls() === 0) ? best : addThread(definition);
  }

  /** Replacing a thread returns the memory that onnxruntime's arenas and fragmentation keep. */
  function replaceIfLarge(thread: Thread, definition: ModelDefinition): void {
    const rssBytes = memoryBytes();
    const memory = { rss_bytes: rssBytes, limit_bytes: memoryLimit };
    if (rssBytes <= memoryLimit) {
      replacingHelps = true;
      replacements.delete(thread);
    } else if (replacingHelps && replacements.has(thread)) {
      // The memory is used by something else: replacing one thread after the other would only cost time.
      replacingHelps = false;
      logger.error(memory, 'memory stays over its limit with a new embedding thread');
    } else if (replacingHelps) {
      logger.warn(memory, 'embedding thread replaced: memory over its limit');
      thread.retire();
      replacements.add(addThread(definition));
    }
  }

  async function infer(work: Work): Promise<readonly Float32Array[]> {
    const { definition } = await load();
    disposed.signal.throwIfAborted();
    const vectors = await chooseThread(definition).infer(work);
    const { dimension } = definition;
    return Array.from({ length: vectors.length / dimension }, (_, index) =>
      vectors.slice(index * dimension, (index + 1) * dimension),
    );
  }

  return {
    start: async () => (await load()).model,
    get model() {
      if (loaded === undefined) throw new VitrineError('not_ready', 'The model is not loaded yet.');
      return loaded.model;
    },
    get parallelCalls() {
      return threadCount;
    },
    embedImages: async (images) => (images.length === 0 ? [] : infer({ kind: 'images', images })),
    async embedTexts(texts) {
      const { model } = await load();
      if (!model.hasText) {
        throw new VitrineError('text_not_supported', `The model ${model.id} only knows images, not words.`);
      }
      return texts.length === 0 ? [] : infer({ kind: 'texts', texts });
    },
    async [Symbol.asyncDispose]() {
      disposed.abort(toStopped());
      await Promise.all([...threads].map((thread) => thread.end(toStopped())));
    },
  };
}

const toStopped = () => new VitrineError('embedding_failed', 'The embedder was stopped.');

/** What a loaded embedder knows. */
interface Loaded {
  readonly definition: ModelDefinition;
  readonly model: EmbedderModel;
}

type Work =
  | { readonly kind: 'images'; readonly images: readonly PreparedImage[] }
  | { readonly kind: 'texts'; readonly texts: readonly string[] };

type Ready = Extract<ThreadReply, { readonly kind: 'ready' }>;

/** A thread that has loaded the model, or is loading it. It answers its calls one after the other. */
interface Thread {
  /** The model it has loaded, and what that computes on. */
  readonly ready: Promise<Ready>;
  /** Calls that it has not answered. */
  pendingCalls(): number;
  /** @returns the vectors, one after the other */
  infer(work: Work): Promise<Float32Array>;
  /** Lets an idle thread free its memory and end by itself. */
  retire(): void;
  /** Fails its calls and terminates it. Resolves when it is gone, or when it doesn't terminate. */
  end(error: VitrineError): Promise<void>;
}

interface ThreadOptions {
  readonly entry: URL;
  readonly data: ThreadData;
  /** What it has to load; undefined: not known yet. */
  readonly fingerprint: string | undefined;
  readonly inferenceTimeoutMs: number;
  readonly logger: Logger;
  onIdle(): void;
  /** It takes no more calls. */
  onEnd(): void;
}

interface Call {
  /** How many images or texts. */
  readonly size: number;
  resolve(vectors: Float32Array): void;
  reject(error: VitrineError): void;
}

function startThread(options: ThreadOptions): Thread {
  const { logger } = options;
  // Options of the main program (test runners', debuggers') are not the thread's.
  const worker = new Worker(options.entry, { workerData: options.data, name: 'embedding', execArgv: [] });
  const exited = once(worker, 'exit').catch(() => undefined);
  const { id } = options.data.definition;
  const calls = new Map<number, Call>();
  const ready = Promise.withResolvers<Ready>();
  let isReady = false;
  let hasEnded = false;
  let lastCallId = 0;
  let timer: NodeJS.Timeout | undefined;

  // A failure reaches those who wait for `ready`; nobody may be waiting.
  ready.promise.catch(() => undefined);

  function stopTaking(): void {
    hasEnded = true;
    clearTimeout(timer);
    options.onEnd();
  }

  async function end(error: VitrineError): Promise<void> {
    if (!hasEnded) stopTaking();
    ready.reject(error);
    for (const { reject } of calls.values()) reject(error);
    calls.clear();
    worker.postMessage('stop');
    await Promise.race([exited, delay(STOP_TIMEOUT_MS, undefined, { ref: false })]);
    await Promise.race([worker.terminate(), delay(TERMINATE_TIMEOUT_MS, undefined, { ref: false })]);
  }

  /** Sets the time limit for what the thread does now: load the model, or its first call. */
  function watch(): void {
    clearTimeout(timer);
    const [call] = calls.values();
    if (!isReady) {
      timer = setTimeout(() => {
        const seconds = LOAD_TIMEOUT_MS / 1000;
        void end(new VitrineError('model_unavailable', `${id} did not load within ${seconds} seconds.`));
      }, LOAD_TIMEOUT_MS);
    } else if (call !== undefined) {
      const timeoutMs = options.inferenceTimeoutMs * Math.ceil(call.size / ITEMS_PER_TIMEOUT);
      timer = setTimeout(() => {
        logger.error(
          { model: id, batch: call.size, timeout_ms: timeoutMs },
          'embedding thread hangs: it is replaced',
        );
        const detail = `The model did not finish within ${timeoutMs / 1000} seconds.`;
        void end(new VitrineError('embedding_timed_out', detail));
      }, timeoutMs);
    }
  }

  worker.on('message', (message: ThreadReply) => {
    if (hasEnded) return;
    if (message.kind === 'unusable') return void end(new VitrineError(message.code, message.message));
    if (message.kind === 'ready') {
      if (message.fingerprint !== (options.fingerprint ?? message.fingerprint)) {
        return void end(
          new VitrineError('model_unavailable', `The weights of ${id} have changed on the disk.`, {
            suggestion: 'Restart this process, so that it uses the new weights, or put the old ones back.',
          }),
        );
      }
      isReady = true;
      ready.resolve(message);
    } else {
      const call = calls.get(message.id);
      calls.delete(message.id);
      if (message.kind === 'vectors') call?.resolve(message.vectors);
      else call?.reject(new VitrineError(message.code, message.message));
      if (calls.size === 0) options.onIdle();
    }
    if (!hasEnded) watch();
  });
  worker.on('error', (cause) => {
    logger.error({ error: cause }, 'embedding thread failed');
    void end(
      new VitrineError('embedding_thread_crashed', 'The embedding thread ended with an error.', { cause }),
    );
  });
  worker.on('exit', (code) => {
    void end(new VitrineError('embedding_thread_crashed', `The embedding thread ended (exit code ${code}).`));
  });
  watch();

  return {
    ready: ready.promise,
    pendingCalls: () => calls.size,
    infer(work) {
      const answer = Promise.withResolvers<Float32Array>();
      const request: ThreadRequest = { id: ++lastCallId, ...work };
      const size = work.kind === 'images' ? work.images.length : work.texts.length;
      calls.set(request.id, { size, resolve: answer.resolve, reject: answer.reject });
      // Posted at once: the thread reads it when the model is loaded.
      worker.postMessage(request);
      if (isReady && calls.size === 1) watch();
      return answer.promise;
    },
    retire() {
      stopTaking();
      worker.postMessage('stop');
    },
    end,
  };
}

/** Of the vision model. Mobile networks have less, transformers more. */
const LARGE_WEIGHTS_BYTES = 30_000_000;

/**
 * Inference threads of a process that may use `processors`: the others decode. A large model gets two at least: the
 * threads of a single call wait for each other whenever one of their processors does something else. Each holds the
 * weights, and runs a single call on fewer processors, so this isn't for a process that also searches.
 */
export function toThreadCount(processors: number, weightsBytes: number, isForSearch = false): number {
  const least = weightsBytes < LARGE_WEIGHTS_BYTES || isForSearch ? 1 : Math.min(2, processors);
  return Math.max(least, Math.round(processors / 3));
}

/**
 * Processors that each inference call uses. A small model takes one: onnxruntime's other threads would wait for it in a
 * loop, on processors that decode images (`npm run bench -- pipeline`). A large one takes its share of all, at most four,
 * where onnxruntime's gain flattens.
 */
export function toIntraOpThreads(processors: number, threads: number, weightsBytes: number): number {
  if (weightsBytes < LARGE_WEIGHTS_BYTES) return 1;
  return Math.min(4, Math.max(1, Math.floor(processors / threads)));
}

/** The memory at which a thread is replaced; Infinity: never. A container's limit above the machine's memory is none. */
export function toMemoryLimit(askedBytes: number, containerBytes: number, machineBytes: number): number {
  if (askedBytes > 0) return askedBytes;
  return containerBytes > 0 && containerBytes < machineBytes
    ? containerBytes * 0.8
    : Number.POSITIVE_INFINITY;
}
