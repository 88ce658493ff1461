import { availableParallelism } from 'node:os';
import { setFlagsFromString } from 'node:v8';
import pLimit, { type LimitFunction } from 'p-limit';
import { VitrineError } from '../../src/errors/vitrine-error.ts';
import type { Logger } from '../../src/observability/logger.ts';
import type { PreparedImage, Preprocessing } from '../embedder.ts';
import type { DecodeWork } from './decoder-process.ts';
import { type ImageLimits, ORDINARY_BYTES, toBudgetBytes } from './image-checks.ts';
import { type Answer, type DecoderProcess, ProcessLost, startProcess } from './process.ts';

// The bytes and pixels of each image count as memory of this process's small heap: V8 would collect garbage several times
// per second. This lets it wait until there is two and a half times as much as is in use.
setFlagsFromString('--heap-growing-percent=150');

export interface DecoderSettings extends ImageLimits {
  /** Hex SHA-256 of encoded images that are refused. */
  readonly placeholderHashes: readonly string[];
  readonly logger: Logger;
  /** An ordinary image that takes longer starts again by itself. */
  readonly ordinaryMs?: number;
  /** An image that takes longer by itself is given up. */
  readonly deadlineMs?: number;
  /** The process's program, for tests of what happens when it fails. */
  readonly entry?: URL;
}

export interface DecodedImage extends PreparedImage {
  /** Hex SHA-256 of the encoded bytes. */
  readonly contentHash: string;
  /** Null unless it was asked for. */
  readonly thumbnail: Uint8Array | null;
}

export interface DecodeOptions {
  /** Ends the wait; what is being decoded then is left to its deadline. */
  readonly signal?: AbortSignal;
  /** Wraps what is really done for the image, and not its wait: for limits of time. May be called twice. */
  timed?<T>(work: () => Promise<T>): Promise<T>;
  /** Somebody waits for it: it goes before those that are not. Default: false. */
  readonly isUrgent?: boolean;
}

export interface PrepareOptions extends DecodeOptions {
  /** Default: false. */
  readonly withThumbnail?: boolean;
}

/**
 * Decodes images from strangers in processes of their own: one that crashes, hangs or takes all memory costs its image and
 * nothing else. Ordinary images share one process. One that isn't, by its header or because it takes longer, is decoded
 * with nothing else in its process, and no ordinary image waits for it.
 */
export interface Decoder extends AsyncDisposable {
  /**
   * @throws VitrineError an error of `prepareImage`, `image_placeholder`, `image_too_complex`, `image_decode_timeout`,
   *   `image_decoder_crashed`, or the signal's reason
   */
  prepare(bytes: Uint8Array, preprocessing: Preprocessing, options?: PrepareOptions): Promise<DecodedImage>;
  /**
   * A JPEG of at most 320 pixels a side.
   * @throws VitrineError the same, but for `image_blank`
   */
  drawThumbnail(bytes: Uint8Array, options?: DecodeOptions): Promise<Uint8Array>;
  /** Memory of its processes, as they last said. */
  memoryBytes(): number;
}

/** A second of work, and one in which it may wait for a thread. */
const ORDINARY_MS = 2_000;
const DEADLINE_MS = 15_000;
/** Node and libvips, before the first image. */
const BASE_BYTES = 150_000_000;
/** What an estimate may be wrong by before a process ends itself. */
const SLACK = 2;

export function createDecoder(settings: DecoderSettings): Decoder {
  const { logger, ordinaryMs = ORDINARY_MS, deadlineMs = DEADLINE_MS } = settings;
  const entry = settings.entry ?? new URL('./decoder-process.ts', import.meta.url);
  const processors = availableParallelism();
  const ordinaryCount = Math.max(2, processors);
  // As many are sent ahead, so that no thread waits for the next one.
  const ordinaryLimit = pLimit(2 * ordinaryCount);
  const urgentLimit = pLimit(ordinaryCount);
  const heavyLimit = pLimit(Math.min(4, Math.max(1, Math.floor(processors / 2))));
  const alive = new Set<DecoderProcess>();
  let shared: DecoderProcess | undefined;
  const idleHeavy = new Set<DecoderProcess>();
  let isDisposed = false;

  function start(forHeavy: boolean): DecoderProcess {
    if (isDisposed) throw new VitrineError('image_decoder_crashed', 'The decoder was stopped.');
    const budgetBytes = forHeavy ? toBudgetBytes(settings) : ordinaryCount * ORDINARY_BYTES;
    const { maxPixels, minSidePixels, placeholderHashes } = settings;
    const started = startProcess({
      entry,
      threads: forHeavy ? 1 : ordinaryCount,
      settings: {
        forHeavy,
        maxMemoryBytes: BASE_BYTES + SLACK * budgetBytes,
        maxPixels,
        minSidePixels,
        placeholderHashes,
      },
    });
    alive.add(started);
    void started.ended.then(() => {
      alive.delete(started);
      idleHeavy.delete(started);
    });
    return started;
  }

  /** @returns null when it has to be decoded by itself */
  async function decodeOrdinary(bytes: Uint8Array, work: DecodeWork): Promise<Decoded | null> {
    if (shared?.isUsable() !== true) shared = start(false);
    const current = shared;
    try {
      const reply = await current.decode(bytes, work, ordinaryMs);
      return reply.kind === 'heavy' ? null : toOutcome(reply);
    } catch (error) {
      if (!(error instanceof ProcessLost)) throw error;
      // A thread that hangs can't be stopped. The other images in the process end as usual, and then it is killed.
      current.endWhenIdle();
      logger.warn({ reason: error.reason }, 'an image that looked ordinary is decoded again by itself');
      return null;
    }
  }

  async function decodeHeavy(bytes: Uint8Array, work: DecodeWork): Promise<Decoded> {
    const current = [...idleHeavy].find((process) => process.isUsable()) ?? start(true);
    idleHeavy.delete(current);
    try {
      const reply = await current.decode(bytes, work, deadlineMs);
      idleHeavy.add(current);
      return toOutcome(reply);
    } catch (error) {
      if (!(error instanceof ProcessLost)) throw error;
      current.kill();
      throw toLostError(error, deadlineMs);
    }
  }

  async function decode(bytes: Uint8Array, work: DecodeWork, options: DecodeOptions): Promise<Decoded> {
    const inLine = <T>(limit: LimitFunction, run: () => Promise<T>) =>
      limit(() => {
        options.signal?.throwIfAborted();
        return options.timed === undefined ? run() : options.timed(run);
      });
    const ordinary = options.isUrgent ? urgentLimit : ordinaryLimit;
    const decoded = await inLine(ordinary, () => decodeOrdinary(bytes, work));
    return decoded ?? inLine(heavyLimit, () => decodeHeavy(bytes, work));
  }

  return {
    async prepare(bytes, preprocessing, { withThumbnail = false, ...options } = {}) {
      const work = { preprocessing, withThumbnail };
      const { contentHash, parts } = await decode(bytes, work, options);
      const [pixels, thumbnail] = parts;
      if (pixels === undefined || thumbnail === undefined) throw new Error('The decoder returned no pixels.');
      const { size } = preprocessing;
      return { pixels, size, contentHash, thumbnail: withThumbnail ? thumbnail : null };
    },
    async drawThumbnail(bytes, options = {}) {
      const work = { preprocessing: null, withThumbnail: true };
      const [, thumbnail] = (await decode(bytes, work, options)).parts;
      if (thumbnail === undefined) throw new Error('The decoder returned no thumbnail.');
      return thumbnail;
    },
    memoryBytes: () => [...alive].reduce((sum, process) => sum + process.rssBytes(), 0),
    async [Symbol.asyncDispose]() {
      isDisposed = true;
      for (const process of alive) process.kill();
      await Promise.all([...alive].map(({ ended }) => ended));
    },
  };
}

type Decoded = Extract<Answer, { readonly kind: 'decoded' }>;

function toOutcome(reply: Answer): Decoded {
  if (reply.kind === 'failed') throw new VitrineError(reply.code, reply.message);
  if (reply.kind === 'heavy') throw new Error('A process for heavy images refused one.');
  return reply;
}

function toLostError(lost: ProcessLost, deadlineMs: number): VitrineError {
  const options = { cause: lost };
  switch (lost.reason) {
    case 'overdue':
      return new VitrineError(
        'image_decode_timeout',
        `Decoding the image took more than ${deadlineMs / 1000} seconds.`,
        options,
      );
    case 'overflow':
      return new VitrineError('image_too_complex', 'Decoding the image takes too much memory.', options);
    case 'crashed':
      return new VitrineError('image_decoder_crashed', 'The process that decoded the image ended.', options);
  }
}
