import { readEnvironment } from '../../src/config/env.ts';

/** A Qdrant server that runs already, and that others may use too. */
export interface RealQdrant {
  readonly url: string;
  readonly apiKey: string | undefined;
  drop(collection: string): Promise<void>;
  /** Whether all its optimisations are done. */
  isIndexed(collection: string): Promise<boolean>;
}

/** The server at QDRANT_URL; null, with a line that says so, where that is not set. */
export function findRealQdrant(): RealQdrant | null {
  const { QDRANT_URL: url, QDRANT_API_KEY: apiKey } = readEnvironment();
  if (url === undefined || url === '') {
    console.log('QDRANT_URL is not set: nothing is run on a real Qdrant.');
    return null;
  }
  const ask = (method: string, collection: string) =>
    fetch(new URL(`collections/${collection}`, url.endsWith('/') ? url : `${url}/`), {
      method,
      headers: apiKey === undefined ? {} : { 'api-key': apiKey },
    });
  return {
    url,
    apiKey,
    async drop(collection) {
      await ask('DELETE', collection);
    },
    async isIndexed(collection) {
      const answer = (await (await ask('GET', collection)).json()) as { result?: { status?: string } };
      return answer.result?.status === 'green';
    },
  };
}
