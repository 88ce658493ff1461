import type { Context } from '../../src/context.ts';
import { createApp } from '../../src/http/app.ts';
import { createOpenApiCheck, type OpenApiCheck } from './openapi-check.ts';

export interface Answer {
  readonly status: number;
  readonly headers: Headers;
  readonly body: Record<string, unknown>;
}

export interface ApiClient {
  readonly check: OpenApiCheck;
  /** Every answer is held against the app's own OpenAPI document before it is given. */
  ask(method: string, path: string, init?: RequestInit): Promise<Answer>;
  get(path: string): Promise<Answer>;
  post(path: string, body?: unknown, headers?: Readonly<Record<string, string>>): Promise<Answer>;
  patch(path: string, body: unknown): Promise<Answer>;
  postForm(path: string, fields: readonly (readonly [string, string | Blob])[]): Promise<Answer>;
  postLines(path: string, lines: readonly string[]): Promise<Answer>;
}

export async function createApiClient(context: Context): Promise<ApiClient> {
  const app = createApp(context);
  const check = createOpenApiCheck(
    (await (await app.request('/openapi.json')).json()) as Record<string, unknown>,
  );

  async function ask(method: string, path: string, init: RequestInit = {}): Promise<Answer> {
    const response = await app.request(path, { ...init, method });
    const text = await response.text();
    const body = JSON.parse(text) as Record<string, unknown>;
    check.response(
      method,
      path.split('?')[0]!,
      response.status,
      response.headers.get('content-type') ?? '',
      body,
    );
    return { status: response.status, headers: response.headers, body };
  }

  return {
    check,
    ask,
    get: (path) => ask('GET', path),
    post: (path, body, headers = {}) =>
      ask('POST', path, {
        headers: { ...(body !== undefined && { 'Content-Type': 'application/json' }), ...headers },
        ...(body !== undefined && { body: JSON.stringify(body) }),
      }),
    patch: (path, body) =>
      ask('PATCH', path, { headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body) }),
    postForm(path, fields) {
      const form = new FormData();
      for (const [name, value] of fields) form.append(name, value);
      return ask('POST', path, { body: form });
    },
    postLines: (path, lines) =>
      ask('POST', path, { headers: { 'Content-Type': 'application/x-ndjson' }, body: lines.join('\n') }),
  };
}
