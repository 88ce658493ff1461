import { readEnvironment } from '../../src/config/env.ts';

/** A Qdrant server that runs already, and that others may use too. */
export interface RealQdrant {
  readonly url: string;
  readonly apiKey: string | undefined;
  drop(collection: string): Promise<void>;
}

/** The server at QDRANT_URL; null, with a line that says so, where that is not set. */
export function findRealQdrant(): RealQdrant | null {
  const { QDRANT_URL: url, QDRANT_API_KEY: apiKey } = readEnvironment();
  if (url === undefined || url === '') {
    console.log('QDRANT_URL is not set: nothing is run on a real Qdrant.');
    return null;
  }
  return {
    url,
    apiKey,
    async drop(collection) {
      await fetch(new URL(`collections/${collection}`, url.endsWith('/') ? url : `${url}/`), {
        method: 'DELETE',
        headers: apiKey === undefined ? {} : { 'api-key': apiKey },
      });
    },
  };
}
