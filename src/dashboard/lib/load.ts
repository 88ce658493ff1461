import { useCallback, useEffect, useRef, useState } from 'preact/hooks';
import { ApiError } from './api.ts';

export interface Loaded<T> {
  /** The last answer; it stays while the next one is loaded. */
  readonly data: T | undefined;
  readonly error: ApiError | undefined;
  readonly isLoading: boolean;
  reload(): void;
}

/** What was asked for before its view is shown. */
export interface Begun<T> {
  readonly key: string;
  readonly answer: Promise<T>;
  /** The answer, as soon as it is there. */
  data: T | undefined;
}

/** Loads what the key names, and again when the key changes. What was begun under the key is not asked for again. */
export function useLoad<T>(
  key: string,
  load: (signal: AbortSignal) => Promise<T>,
  begun?: Begun<T>,
): Loaded<T> {
  const first = useRef(begun);
  const [state, setState] = useState<Omit<Loaded<T>, 'reload'>>(() => {
    const data = begun?.key === key ? begun.data : undefined;
    return { data, error: undefined, isLoading: data === undefined };
  });
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const own = first.current?.key === key ? first.current : undefined;
    first.current = undefined;
    if (own?.data !== undefined && own.data === state.data) return;
    const left = new AbortController();
    setState((last) => ({ ...last, isLoading: true }));
    (own?.answer ?? load(left.signal)).then(
      (data) => {
        if (!left.signal.aborted) setState({ data, error: undefined, isLoading: false });
      },
      (error: unknown) => {
        if (!left.signal.aborted)
          setState((last) => ({ ...last, error: toApiError(error), isLoading: false }));
      },
    );
    return () => left.abort();
  }, [key, turn]);
  const reload = useCallback(() => setTurn((last) => last + 1), []);
  return { ...state, reload };
}

export function toApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  reportError(error);
  return new ApiError({
    detail: 'This page has failed.',
    code: 'page_failed',
    status: 0,
    suggestion: 'Load it again. If it fails again, report it with what the console says.',
  });
}
