import type { Begun } from './lib/load.ts';
import { route } from './lib/router.ts';
import { loadSession } from './lib/session.ts';
import { type Found, PAGE, search, toSearchKey } from './search/request.ts';
import { parseSearch } from './search/state.ts';

// This module runs as soon as it is here: what the first view shows is asked for while the rest of the page still loads.

/** The first look at who asks; it fails for those who must sign in. */
export const begunSession = loadSession();
begunSession.catch(() => undefined);

const [view = 'search'] = route.value.path;
let begunSearch = view === 'search' ? beginSearch() : undefined;

function beginSearch(): Begun<Found> {
  const query = parseSearch(route.value);
  const answer = search(query, PAGE, new AbortController().signal);
  const begun: Begun<Found> = { key: toSearchKey(query, PAGE), answer, data: undefined };
  answer.then(
    (data) => {
      begun.data = data;
    },
    // Who signs in later asks again.
    () => {
      begunSearch = undefined;
    },
  );
  return begun;
}

/** Ends when all that was begun has its answer, or none. */
export const begun: Promise<unknown> = Promise.allSettled([begunSession, begunSearch?.answer]);

/** The search that the page began with, for the first who asks. */
export function takeBegunSearch(): Begun<Found> | undefined {
  const begun = begunSearch;
  begunSearch = undefined;
  return begun;
}
