/** Answers of the API as a test reads them: the schemas are checked where the API itself is tested. */
export interface StatsAnswer {
  readonly total_pending: number;
  readonly completed: number;
  readonly dead: number;
}
export interface WorkersAnswer {
  readonly workers: readonly { readonly id: string; readonly pid: number }[];
}
export interface BatchAnswer {
  readonly accepted: number;
  readonly rejected: readonly unknown[];
}

export interface SearchAnswer {
  readonly hits: readonly {
    readonly product_id: string;
    readonly score: number;
    readonly payload: Readonly<Record<string, unknown>>;
  }[];
}

export interface Client {
  stats(): Promise<StatsAnswer>;
  workers(): Promise<WorkersAnswer['workers']>;
  enqueueBatch(jobs: readonly unknown[]): Promise<BatchAnswer>;
  searchByUpload(image: Uint8Array, fields: Readonly<Record<string, string>>): Promise<SearchAnswer>;
}

/** Requests as a catalog system would send them. An answer that isn't a success throws with its body. */
export function createClient(url: string): Client {
  async function send<T>(path: string, init: RequestInit = {}): Promise<T> {
    const response = await fetch(`${url}${path}`, init);
    const text = await response.text();
    if (!response.ok) throw new Error(`${path} answered ${response.status}: ${text}`);
    return JSON.parse(text) as T;
  }
  return {
    stats: () => send('/queue/stats'),
    workers: async () => (await send<WorkersAnswer>('/queue/workers')).workers,
    enqueueBatch: (jobs) =>
      send('/queue/enqueue/batch', {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify(jobs),
      }),
    searchByUpload(image, fields) {
      const form = new FormData();
      form.set('image', new Blob([image as Uint8Array<ArrayBuffer>]), 'image');
      for (const [name, value] of Object.entries(fields)) form.set(name, value);
      return send('/search', { method: 'POST', body: form });
    },
  };
}
