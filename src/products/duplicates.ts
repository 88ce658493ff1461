import pLimit from 'p-limit';
import { VitrineError } from '../errors/vitrine-error.ts';
import type { Duplicates, DuplicatesRequest, VectorStore } from '../vectors/port.ts';

/** Thresholds that are searched for or wait; requests for one of them share its answer. */
const MAX_THRESHOLDS = 8;
const RETRY_AFTER_MS = 10_000;

interface SharedSearch {
  readonly found: Promise<Duplicates>;
  readonly controller: AbortController;
  askers: number;
}

/**
 * Finds duplicates once at a time, because it reads every image. Requests for the same threshold share one search, which
 * ends when all of them have gone.
 * @param maxGroups the greatest limit of a request
 */
export function createSharedDuplicates(store: Pick<VectorStore, 'duplicates'>, maxGroups: number) {
  const searches = new Map<number, SharedSearch>();
  const inTurn = pLimit(1);

  function start(threshold: number): SharedSearch {
    if (searches.size === MAX_THRESHOLDS) {
      throw new VitrineError('server_busy', 'Other searches for duplicates run or wait.', {
        suggestion: 'Send it again after the seconds in Retry-After.',
        retryAfterMs: RETRY_AFTER_MS,
      });
    }
    const controller = new AbortController();
    const { signal } = controller;
    const found = inTurn(() => {
      signal.throwIfAborted();
      return store.duplicates({ threshold, limit: maxGroups, signal });
    });
    const search = { found, controller, askers: 0 };
    searches.set(threshold, search);
    const forget = () => remove(threshold, search);
    found.then(forget, forget);
    return search;
  }

  function remove(threshold: number, search: SharedSearch): void {
    if (searches.get(threshold) === search) searches.delete(threshold);
  }

  /** @throws VitrineError `server_busy`; the signal's reason when it aborts */
  return async ({ threshold, limit, signal }: DuplicatesRequest): Promise<Duplicates> => {
    signal?.throwIfAborted();
    const search = searches.get(threshold) ?? start(threshold);
    search.askers += 1;
    const { promise: gone, reject } = Promise.withResolvers<never>();
    const leave = () => reject(signal?.reason);
    signal?.addEventListener('abort', leave, { once: true });
    try {
      const found = await Promise.race([search.found, gone]);
      return { ...found, groups: found.groups.slice(0, limit) };
    } finally {
      signal?.removeEventListener('abort', leave);
      search.askers -= 1;
      if (search.askers === 0) {
        remove(threshold, search);
        search.controller.abort();
      }
    }
  };
}
