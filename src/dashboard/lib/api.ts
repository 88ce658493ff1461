import { signal } from '@preact/signals';

/** A failure as people read it: what went wrong, and what to do. */
export class ApiError extends Error {
  override readonly name = 'ApiError';
  readonly code: string;
  readonly status: number;
  readonly suggestion: string;
  readonly faults: readonly { readonly path: string; readonly message: string }[];

  constructor({ detail, code, status, suggestion, faults = [] }: Problem) {
    super(detail);
    this.code = code;
    this.status = status;
    this.suggestion = suggestion;
    this.faults = faults;
  }
}

interface Problem {
  readonly detail: string;
  readonly code: string;
  readonly status: number;
  readonly suggestion: string;
  readonly faults?: ApiError['faults'];
}

const UNREACHABLE: Problem = {
  detail: 'The server does not answer.',
  code: 'unreachable',
  status: 0,
  suggestion: 'Check that Vitrine is running and that this device is online, then try again.',
};

/** True from the first answer that asked for an API key until someone has signed in. */
export const needsKey = signal(false);

export interface AskOptions {
  readonly method?: 'GET' | 'POST' | 'PATCH' | 'DELETE';
  /** An object is sent as JSON, a form as it is. */
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
  readonly signal?: AbortSignal;
}

/** One request to the API. @throws ApiError, or the reason of an aborted signal */
export async function ask<T>(path: string, { method = 'GET', body, headers = {}, signal }: AskOptions = {}) {
  const isRaw = body === undefined || body instanceof FormData || typeof body === 'string';
  const response = await fetch(path, {
    method,
    headers: { ...(isRaw ? {} : { 'Content-Type': 'application/json' }), ...headers },
    ...(body !== undefined && { body: isRaw ? (body as BodyInit) : JSON.stringify(body) }),
    ...(signal && { signal }),
  }).catch((error: unknown) => {
    throw signal?.aborted ? error : new ApiError(UNREACHABLE);
  });
  if (response.ok) return (response.status === 204 ? undefined : await response.json()) as T;
  if (response.status === 401) needsKey.value = true;
  const isProblem = response.headers.get('content-type')?.includes('problem+json');
  const problem = isProblem
    ? ((await response.json()) as Problem)
    : { ...UNREACHABLE, status: response.status };
  throw new ApiError(problem);
}

/** A path whose parts may hold any character. */
export const toPath = (...parts: readonly string[]): string =>
  parts.map((part) => `/${encodeURIComponent(part)}`).join('');

export const toThumbnail = (productId: string, imageId: string): string =>
  `${toPath('products', productId, 'images', imageId)}/thumbnail?optional=true`;
