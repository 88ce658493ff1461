import { useCallback, useEffect, useState } from 'preact/hooks';
import { ApiError } from './api.ts';

export interface Loaded<T> {
  /** The last answer; it stays while the next one is loaded. */
  readonly data: T | undefined;
  readonly error: ApiError | undefined;
  readonly isLoading: boolean;
  reload(): void;
}

/** Loads what the key names, and again when the key changes. */
export function useLoad<T>(key: string, load: (signal: AbortSignal) => Promise<T>): Loaded<T> {
  const [state, setState] = useState<Omit<Loaded<T>, 'reload'>>({
    data: undefined,
    error: undefined,
    isLoading: true,
  });
  const [turn, setTurn] = useState(0);
  useEffect(() => {
    const left = new AbortController();
    setState((last) => ({ ...last, isLoading: true }));
    load(left.signal).then(
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
