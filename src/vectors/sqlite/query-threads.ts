import { Worker } from 'node:worker_threads';
import { VitrineError } from '../../errors/vitrine-error.ts';
import type { Queries } from './queries.ts';
import type { ThreadReply, ThreadRequest, ThreadSettings } from './query-thread.ts';

/** Two, so that a search needn't wait for facets or duplicates. */
const MAX_THREADS = 2;

export type QueryThreads = Queries & AsyncDisposable;

/**
 * Runs queries in threads with connections of their own, because SQLite blocks the thread it works in: at 100,000 points
 * a search takes some 300 ms, in which the process could answer nothing else. The first query starts a thread.
 */
export function createQueryThreads(settings: ThreadSettings): QueryThreads {
  const threads = new Set<Thread>();
  let closed = false;

  function chooseThread(): Thread {
    const [best] = [...threads].toSorted((a, b) => a.pendingCalls() - b.pendingCalls());
    if (best !== undefined && (best.pendingCalls() === 0 || threads.size === MAX_THREADS)) return best;
    const thread = startThread(settings, () => threads.delete(thread));
    threads.add(thread);
    return thread;
  }

  const run =
    <Request extends object, Result>(name: keyof Queries) =>
    async (request: Request): Promise<Result> => {
      if (closed) throw toClosed();
      return (await chooseThread().call(name, request)) as Result;
    };

  return {
    search: run('search'),
    facets: run('facets'),
    listProducts: run('listProducts'),
    duplicates: run('duplicates'),
    async [Symbol.asyncDispose]() {
      closed = true;
      await Promise.all([...threads].map((thread) => thread.close()));
    },
  };
}

const toClosed = () => new VitrineError('store_unavailable', 'The store is closed.');

interface Thread {
  /** Calls that it has not answered. */
  pendingCalls(): number;
  call(name: keyof Queries, request: object & { readonly signal?: AbortSignal }): Promise<unknown>;
  /** Ends it after the statement that it works on. */
  close(): Promise<void>;
}

interface Call {
  resolve(result: unknown): void;
  reject(error: unknown): void;
}

function startThread(settings: ThreadSettings, onEnd: () => void): Thread {
  // Options of the main program (test runners', debuggers') are not the thread's.
  const worker = new Worker(new URL('./query-thread.ts', import.meta.url), {
    workerData: settings,
    name: 'queries',
    execArgv: ['--disable-warning=ExperimentalWarning'],
  });
  const calls = new Map<number, Call>();
  const { promise: ended, resolve: setEnded } = Promise.withResolvers<void>();
  let lastId = 0;

  const post = (message: ThreadRequest) => worker.postMessage(message);

  function settle(id: number): Call | undefined {
    const call = calls.get(id);
    calls.delete(id);
    // An idle thread doesn't keep the process running.
    if (calls.size === 0) worker.unref();
    return call;
  }

  function end(error: VitrineError): void {
    for (const id of calls.keys()) settle(id)?.reject(error);
    onEnd();
    setEnded();
  }

  worker.on('message', (reply: ThreadReply) => {
    const call = settle(reply.id);
    if ('result' in reply) return call?.resolve(reply.result);
    const { code, message, suggestion } = reply.error;
    call?.reject(new VitrineError(code, message, { suggestion }));
  });
  worker.on('error', (cause) =>
    end(new VitrineError('store_unavailable', 'The thread that searches ended with an error.', { cause })),
  );
  worker.on('exit', () => end(toClosed()));

  return {
    pendingCalls: () => calls.size,
    call(name, { signal, ...request }) {
      signal?.throwIfAborted();
      const { promise, resolve, reject } = Promise.withResolvers();
      const id = ++lastId;
      const cancel = () => {
        post({ kind: 'cancel', id });
        settle(id)?.reject(signal?.reason);
      };
      signal?.addEventListener('abort', cancel, { once: true });
      calls.set(id, { resolve, reject });
      worker.ref();
      post({ kind: 'query', id, name, request });
      return promise.finally(() => signal?.removeEventListener('abort', cancel));
    },
    async close() {
      worker.ref();
      post({ kind: 'close' });
      await ended;
    },
  };
}
