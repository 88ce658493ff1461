import { hash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { constants, setPriority } from 'node:os';
import type { ErrorCode } from '../../src/errors/error-table.ts';
import { toVitrineError, VitrineError } from '../../src/errors/vitrine-error.ts';
import type { Preprocessing } from '../embedder.ts';
import { freeBytes } from '../free-bytes.ts';
import { decodeImage, drawThumbnail, type OpenedImage, openImage } from '../prepare-image.ts';
import { openPipe, writeFrame } from './frames.ts';
import type { ImageLimits } from './image-checks.ts';

/** What the process is for: its argument, in JSON. */
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

/** Comes with one part, the image. */
export interface DecodeRequest extends DecodeWork {
  readonly id: number;
}

/** The pipe that messages go through, both ways. */
export const PIPE_FD = 3;

export type DecodeReply =
  /** With two parts: the pixels, empty unless the work names a preprocessing, and the thumbnail, empty unless it asks for one. */
  | { readonly kind: 'decoded'; readonly id: number; readonly contentHash: string }
  /** It is not ordinary: a process for heavy images has to decode it. */
  | { readonly kind: 'heavy'; readonly id: number }
  | { readonly kind: 'failed'; readonly id: number; readonly code: ErrorCode; readonly message: string };

export type ProcessMessage =
  /** What it was decoding takes too much memory. It ends. */
  | { readonly kind: 'overflow' }
  | (({ readonly kind: 'ready' } | DecodeReply) & { readonly rssBytes: number });

const CHECK_MEMORY_EVERY_MS = 20;
const NOTHING = new Uint8Array();

const settings = JSON.parse(process.argv[2] ?? '') as ProcessSettings;
const placeholders = new Set(settings.placeholderHashes);
let rssBytes = process.memoryUsage.rss();

// `process.exit` would wait for the decoding threads.
const end = () => process.kill(process.pid, 'SIGKILL');
const pipe = openPipe(PIPE_FD, (request, [bytes = NOTHING]) => {
  void answer(request as DecodeRequest, bytes).then(({ reply, parts = [] }) =>
    send({ ...reply, rssBytes }, parts, () => parts.forEach(freeBytes)),
  );
});
pipe.on('error', end).on('close', end);
// Ctrl+C reaches the whole group: the parent finishes its work, and ends this process afterwards.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => undefined);

if (settings.forHeavy) setPriority(constants.priority.PRIORITY_LOW);
setInterval(() => {
  rssBytes = process.memoryUsage.rss();
  if (rssBytes > settings.maxMemoryBytes) send({ kind: 'overflow' }, [], end);
}, CHECK_MEMORY_EVERY_MS);
// Linux ends this process first when memory runs out, and not the worker.
await writeFile('/proc/self/oom_score_adj', '1000').catch(() => undefined);
send({ kind: 'ready', rssBytes });

function send(message: ProcessMessage, parts: readonly Uint8Array[] = [], onSent?: () => void): void {
  writeFrame(pipe, message, parts, onSent);
}

async function answer(
  { id, preprocessing, withThumbnail }: DecodeRequest,
  bytes: Uint8Array,
): Promise<{ readonly reply: DecodeReply; readonly parts?: readonly Uint8Array[] }> {
  try {
    const contentHash = hash('sha256', bytes, 'hex');
    if (placeholders.has(contentHash)) {
      throw new VitrineError('image_placeholder', 'The image is one that stands for a missing picture.');
    }
    const opened = await openImage(bytes, settings);
    if (!opened.isOrdinary && !settings.forHeavy) return { reply: { kind: 'heavy', id } };
    // One after the other: the limits of memory are those of one image.
    const pixels = preprocessing && (await preparePixels(opened, preprocessing));
    const thumbnail = withThumbnail ? await drawThumbnail(opened) : null;
    return { reply: { kind: 'decoded', id, contentHash }, parts: [pixels ?? NOTHING, thumbnail ?? NOTHING] };
  } catch (error) {
    const { code, message } = toVitrineError(error, 'image_corrupt');
    return { reply: { kind: 'failed', id, code, message } };
  }
}

async function preparePixels(opened: OpenedImage, preprocessing: Preprocessing): Promise<Uint8Array> {
  const { pixels, isBlank } = await decodeImage(opened, preprocessing);
  if (isBlank) throw new VitrineError('image_blank', 'The image is all of one colour.');
  return pixels;
}
