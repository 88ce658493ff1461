import { VitrineError } from '../../errors/vitrine-error.ts';

/** What the wire said, seen below the client: the client keeps only the first digit of Retry-After. */
export interface Answer {
  status: number | undefined;
  retryAfter: string | undefined;
}

export interface Failure {
  readonly error: VitrineError;
  /** True when the same request may pass in a moment. */
  readonly passing: boolean;
}

const TOO_LONG = 500;

/** What a failed request means, by what the server answered or by why it didn't. */
export function toFailure(
  thrown: unknown,
  answer: Answer,
  apiKey: string | undefined,
  nowMs: number,
): Failure {
  if (thrown instanceof VitrineError) return { error: thrown, passing: thrown.code === 'store_unavailable' };
  const { status } = answer;
  if (status === undefined) return toConnectionFailure(thrown);
  if (status === 401 || status === 403) {
    // Not `store_rejected`: the jobs are fine, and would all be given up for one wrong setting.
    const error = new VitrineError('store_unavailable', 'Qdrant refused the API key.', { cause: thrown });
    return { error, passing: false };
  }
  if (status === 408 || status === 429 || status >= 500 || status < 300) {
    const retryAfterMs = toRetryAfterMs(answer.retryAfter, nowMs);
    const error = new VitrineError('store_unavailable', `Qdrant answered with HTTP status ${status}.`, {
      cause: thrown,
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
    });
    return { error, passing: true };
  }
  const sentence = toSentence(thrown, apiKey) ?? `HTTP status ${status}`;
  const error = new VitrineError('store_rejected', `Qdrant refused: ${sentence}`, { cause: thrown });
  return { error, passing: false };
}

function toConnectionFailure(thrown: unknown): Failure {
  if (thrown instanceof DOMException && thrown.name === 'TimeoutError') {
    const error = new VitrineError('store_unavailable', 'Qdrant did not answer in time.', { cause: thrown });
    return { error, passing: true };
  }
  if (thrown instanceof DOMException && thrown.name === 'AbortError') {
    const error = new VitrineError('store_unavailable', 'The store is closed.', { cause: thrown });
    return { error, passing: false };
  }
  const error = new VitrineError('store_unavailable', 'No connection to Qdrant.', {
    cause: thrown instanceof Error && thrown.cause instanceof Error ? thrown.cause : thrown,
  });
  return { error, passing: true };
}

/** The waiting time in milliseconds of a Retry-After header: seconds or a date (RFC 9110, section 10.2.3). */
export function toRetryAfterMs(header: string | undefined, nowMs: number): number | undefined {
  if (header === undefined) return undefined;
  if (/^\d+$/.test(header)) return Number(header) * 1000;
  const date = Date.parse(header);
  return Number.isNaN(date) ? undefined : Math.max(0, date - nowMs);
}

/** The server's own words, without the key and without a page of them. */
function toSentence(thrown: unknown, apiKey: string | undefined): string | undefined {
  const data = typeof thrown === 'object' && thrown !== null && 'data' in thrown ? thrown.data : undefined;
  const text = typeof data === 'string' ? data : toErrorField(data);
  if (text === undefined || text.trim() === '') return undefined;
  const safe = apiKey === undefined || apiKey === '' ? text : text.replaceAll(apiKey, '***');
  return safe.length > TOO_LONG ? `${safe.slice(0, TOO_LONG)} …` : safe;
}

/** `{status: {error: "…"}}` is how Qdrant reports. */
function toErrorField(data: unknown): string | undefined {
  if (typeof data !== 'object' || data === null || !('status' in data)) return undefined;
  const { status } = data;
  if (typeof status !== 'object' || status === null || !('error' in status)) return undefined;
  return typeof status.error === 'string' ? status.error : undefined;
}

/** HTTP 200 is not done: an update that is only acknowledged may still fail, or be lost. */
export function assertCompleted(result: { readonly status: string }): void {
  if (result.status === 'completed') return;
  throw new VitrineError(
    'store_unavailable',
    `Qdrant reports the update as "${result.status}", not completed.`,
  );
}
