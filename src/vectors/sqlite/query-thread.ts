import { parentPort, workerData } from 'node:worker_threads';
import type { ErrorCode } from '../../errors/error-table.ts';
import { toVitrineError } from '../../errors/vitrine-error.ts';
import { createQueries, type Queries } from './queries.ts';
import { createStoreFile, type SqliteVectorStoreSettings } from './store-file.ts';

/** What the thread is started with. */
export type ThreadSettings = Omit<SqliteVectorStoreSettings, 'clock'>;

export type ThreadRequest =
  | { readonly kind: 'query'; readonly id: number; readonly name: keyof Queries; readonly request: object }
  | { readonly kind: 'cancel'; readonly id: number }
  | { readonly kind: 'close' };

export type ThreadReply =
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly error: ThreadError };

export interface ThreadError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly suggestion: string;
}

const port = parentPort;
if (port === null) throw new Error('query-thread.ts is the entry of a thread, not a program.');
const file = createStoreFile(workerData as ThreadSettings);
const queries = createQueries(file);
const running = new Map<number, AbortController>();

async function answer(id: number, name: keyof Queries, request: object): Promise<ThreadReply> {
  const controller = new AbortController();
  running.set(id, controller);
  try {
    const query = queries[name] as (request: object) => Promise<unknown>;
    return { id, result: await query({ ...request, signal: controller.signal }) };
  } catch (error) {
    const { code, message, suggestion } = toVitrineError(error);
    return { id, error: { code, message, suggestion } };
  } finally {
    running.delete(id);
  }
}

port.on('message', async (message: ThreadRequest) => {
  if (message.kind === 'query') {
    port.postMessage(await answer(message.id, message.name, message.request));
  } else if (message.kind === 'cancel') {
    running.get(message.id)?.abort();
  } else {
    for (const controller of running.values()) controller.abort();
    await file[Symbol.asyncDispose]();
    port.close();
  }
});
