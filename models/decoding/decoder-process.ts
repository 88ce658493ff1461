import { hash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { constants, setPriority } from 'node:os';
import type { ErrorCode } from '../../src/errors/error-table.ts';
import { toVitrineError, VitrineError } from '../../src/errors/vitrine-error.ts';
import type { Preprocessing } from '../embedder.ts';
import { decodeImage, openImage } from '../prepare-image.ts';
import { readFrames } from './frames.ts';
import type { ImageLimits } from './image-checks.ts';

/** The first message, and the only one: what the process is for. */
export interface ProcessSettings extends ImageLimits {
  /** True: it decodes what is not ordinary, in the time that the machine has left. */
  readonly forHeavy: boolean;
  /** Over this it ends itself. */
  readonly maxMemoryBytes: number;
  /** Hex SHA-256 of encoded images. */
  readonly placeholderHashes: readonly string[];
}

/** What comes in front of each image. */
export interface RequestHeader {
  readonly id: number;
  readonly preprocessing: Preprocessing;
}

/** The pipe that requests come through. */
export const REQUESTS_FD = 4;

export type DecodeReply =
  | {
      readonly kind: 'prepared';
      readonly id: number;
      readonly pixels: Uint8Array;
      readonly size: number;
      readonly contentHash: string;
    }
  /** It is not ordinary: a process for heavy images has to decode it. */
  | { readonly kind: 'heavy'; readonly id: number }
  | { readonly kind: 'failed'; readonly id: number; readonly code: ErrorCode; readonly message: string };

export type ProcessMessage =
  /** What it was decoding takes too much memory. It ends. */
  | { readonly kind: 'overflow' }
  | (({ readonly kind: 'ready' } | DecodeReply) & { readonly rssBytes: number });

const CHECK_MEMORY_EVERY_MS = 20;

function send(message: ProcessMessage, onSent?: () => void): void {
  process.send?.(message, undefined, undefined, onSent);
}

// `process.exit` would wait for the decoding threads.
const end = () => process.kill(process.pid, 'SIGKILL');
process.on('disconnect', end);
// Ctrl+C reaches the whole group: the parent finishes its work, and ends this process afterwards.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => undefined);

process.once('message', (settings: ProcessSettings) => {
  const placeholders = new Set(settings.placeholderHashes);
  if (settings.forHeavy) setPriority(constants.priority.PRIORITY_BELOW_NORMAL);
  setInterval(() => {
    if (process.memoryUsage.rss() > settings.maxMemoryBytes) send({ kind: 'overflow' }, end);
  }, CHECK_MEMORY_EVERY_MS);
  readFrames(REQUESTS_FD, (header, bytes) => {
    void answer(header as RequestHeader, bytes, settings, placeholders).then((reply) =>
      send({ ...reply, rssBytes: process.memoryUsage.rss() }),
    );
  });
  send({ kind: 'ready', rssBytes: process.memoryUsage.rss() });
});

async function answer(
  { id, preprocessing }: RequestHeader,
  bytes: Uint8Array,
  settings: ProcessSettings,
  placeholders: ReadonlySet<string>,
): Promise<DecodeReply> {
  try {
    const contentHash = hash('sha256', bytes, 'hex');
    if (placeholders.has(contentHash)) {
      throw new VitrineError('image_placeholder', 'The image is one that stands for a missing picture.');
    }
    const opened = await openImage(bytes, settings);
    if (!opened.isOrdinary && !settings.forHeavy) return { kind: 'heavy', id };
    const { pixels, size, isBlank } = await decodeImage(opened, preprocessing);
    if (isBlank) throw new VitrineError('image_blank', 'The image is all of one colour.');
    return { kind: 'prepared', id, contentHash, pixels, size };
  } catch (error) {
    const { code, message } = toVitrineError(error, 'image_corrupt');
    return { kind: 'failed', id, code, message };
  }
}

// Linux ends this process first when memory runs out, and not the worker.
await writeFile('/proc/self/oom_score_adj', '1000').catch(() => undefined);
