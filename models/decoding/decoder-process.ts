import { hash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { constants, setPriority } from 'node:os';
import type { ErrorCode } from '../../src/errors/error-table.ts';
import { toVitrineError, VitrineError } from '../../src/errors/vitrine-error.ts';
import type { PreparedImage, Preprocessing } from '../embedder.ts';
import { decodeImage, drawThumbnail, type OpenedImage, openImage } from '../prepare-image.ts';
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

/** What an image is decoded for. */
export interface DecodeWork {
  /** Null: for no model. */
  readonly preprocessing: Preprocessing | null;
  readonly withThumbnail: boolean;
}

/** What comes in front of each image. */
export interface RequestHeader extends DecodeWork {
  readonly id: number;
}

/** The pipe that requests come through. */
export const REQUESTS_FD = 4;

export type DecodeReply =
  | {
      readonly kind: 'decoded';
      readonly id: number;
      readonly contentHash: string;
      /** Null unless the work names a preprocessing. */
      readonly image: PreparedImage | null;
      readonly thumbnail: Uint8Array | null;
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
  { id, preprocessing, withThumbnail }: RequestHeader,
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
    // One after the other: the limits of memory are those of one image.
    const image = preprocessing && (await prepareImage(opened, preprocessing));
    const thumbnail = withThumbnail ? await drawThumbnail(opened) : null;
    return { kind: 'decoded', id, contentHash, image, thumbnail };
  } catch (error) {
    const { code, message } = toVitrineError(error, 'image_corrupt');
    return { kind: 'failed', id, code, message };
  }
}

async function prepareImage(opened: OpenedImage, preprocessing: Preprocessing): Promise<PreparedImage> {
  const { pixels, size, isBlank } = await decodeImage(opened, preprocessing);
  if (isBlank) throw new VitrineError('image_blank', 'The image is all of one colour.');
  return { pixels, size };
}

// Linux ends this process first when memory runs out, and not the worker.
await writeFile('/proc/self/oom_score_adj', '1000').catch(() => undefined);
