import { it } from 'vitest';
import { readEnvironment } from '../../src/config/env.ts';
import { createQdrantVectorStore } from '../../src/vectors/qdrant/vector-store.ts';
import { describeVectorStore } from './vector-store.contract.ts';

const { QDRANT_URL: url, QDRANT_API_KEY: apiKey } = readEnvironment();

if (url === undefined || url === '') {
  const reason = 'QDRANT_URL is not set: the contract is not run on a real Qdrant';
  console.log(`${reason}.`);
  it.skip(reason);
} else {
  describeVectorStore(`Qdrant at ${new URL(url).host}`, {
    open: (collection) => createQdrantVectorStore({ url, apiKey, collection, timeoutMs: 30_000 }),
    async drop(collection) {
      await fetch(new URL(`collections/${collection}`, url.endsWith('/') ? url : `${url}/`), {
        method: 'DELETE',
        headers: apiKey === undefined ? {} : { 'api-key': apiKey },
      });
    },
  });
}
