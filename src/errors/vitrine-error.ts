import { ERRORS, type ErrorCode, type Retry } from './error-table.ts';

export interface VitrineErrorOptions {
  readonly cause?: unknown;
  /** Replaces the table's advice where the place of failure knows better. */
  readonly suggestion?: string;
  /** How long the failing side asked us to wait, in milliseconds. */
  readonly retryAfterMs?: number;
  /** Faults of single fields, each with its path in the request. */
  readonly faults?: readonly { readonly path: string; readonly message: string }[];
}

/** A failure with a code. Its message is a plain sentence that may be shown to anyone: no secret, no stack. */
export class VitrineError extends Error {
  override readonly name = 'VitrineError';
  readonly code: ErrorCode;
  readonly suggestion: string;
  readonly retryAfterMs: number | undefined;
  readonly faults: VitrineErrorOptions['faults'];

  constructor(code: ErrorCode, detail: string, options: VitrineErrorOptions = {}) {
    super(detail, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.suggestion = options.suggestion ?? ERRORS[code].suggestion;
    this.retryAfterMs = options.retryAfterMs;
    this.faults = options.faults;
  }

  get status(): number {
    return ERRORS[this.code].status;
  }

  /** What a worker does with a job that failed with it. */
  get retry(): Retry {
    return ERRORS[this.code].retry;
  }

  /** True when the same call may succeed later without anyone changing it. */
  get retryable(): boolean {
    return this.retry !== 'never';
  }
}

/**
 * Any thrown thing as a VitrineError. What is not one already becomes `fallback` with a detail that tells
 * nothing of the inside; the original stays as its cause, for the log.
 */
export function toVitrineError(
  error: unknown,
  fallback: ErrorCode = 'internal_error',
  detail: string = ERRORS[fallback].title,
): VitrineError {
  return error instanceof VitrineError ? error : new VitrineError(fallback, detail, { cause: error });
}
