import { parentPort, workerData } from 'node:worker_threads';
import type { ErrorCode } from '../../src/errors/error-table.ts';
import { toVitrineError } from '../../src/errors/vitrine-error.ts';
import type { PreparedImage } from '../embedder.ts';
import { type ModelDefinition, readFingerprint } from '../files/model-folder.ts';
import { freeBytes } from '../free-bytes.ts';
import { type LoadOptions, loadModel } from './transformers-model.ts';

/** What the thread is started with. */
export interface ThreadData extends LoadOptions {
  readonly definition: ModelDefinition;
}

export type ThreadRequest =
  | { readonly id: number; readonly kind: 'images'; readonly images: readonly PreparedImage[] }
  | { readonly id: number; readonly kind: 'texts'; readonly texts: readonly string[] };

export type ThreadReply =
  | { readonly kind: 'ready'; readonly fingerprint: string; readonly device: string; readonly why: string }
  | { readonly kind: 'unusable'; readonly code: ErrorCode; readonly message: string }
  /** The vectors of one request, one after the other. */
  | { readonly kind: 'vectors'; readonly id: number; readonly vectors: Float32Array }
  | { readonly kind: 'failed'; readonly id: number; readonly code: ErrorCode; readonly message: string };

const port = parentPort;
if (port === null) throw new Error('embedding-thread.ts is the entry of a thread, not a program.');
const reply = (message: ThreadReply, transfer: ArrayBuffer[] = []) => port.postMessage(message, transfer);
const toFailure = (error: unknown, fallback: ErrorCode) => {
  const { code, message } = toVitrineError(
    error,
    fallback,
    error instanceof Error ? error.message : undefined,
  );
  return { code, message };
};

const { definition, ...options } = workerData as ThreadData;
try {
  const model = await loadModel(definition, options);
  const fingerprint = await readFingerprint(definition);
  const answer = async (request: ThreadRequest | 'stop') => {
    if (request === 'stop') {
      await model[Symbol.asyncDispose]();
      port.close();
      return;
    }
    try {
      const vectors =
        request.kind === 'images'
          ? await model.embedImages(request.images)
          : await model.embedTexts(request.texts);
      reply({ kind: 'vectors', id: request.id, vectors }, [vectors.buffer as ArrayBuffer]);
      if (request.kind === 'images') for (const { pixels } of request.images) freeBytes(pixels);
    } catch (error) {
      reply({ kind: 'failed', id: request.id, ...toFailure(error, 'embedding_failed') });
    }
  };
  reply({ kind: 'ready', fingerprint, ...model.device });
  // One after the other, so that the embedder can tell how long a single call takes.
  let last = Promise.resolve();
  port.on('message', (request: ThreadRequest | 'stop') => {
    last = last.then(() => answer(request));
  });
} catch (error) {
  reply({ kind: 'unusable', ...toFailure(error, 'model_unavailable') });
}
