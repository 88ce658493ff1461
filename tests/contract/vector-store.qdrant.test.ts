import { it } from 'vitest';
import { createQdrantVectorStore } from '../../src/vectors/qdrant/vector-store.ts';
import { findRealQdrant } from '../support/real-qdrant.ts';
import { describeVectorStore } from './vector-store.contract.ts';

const qdrant = findRealQdrant();

if (qdrant === null) {
  it.skip('QDRANT_URL is not set: the contract is not run on a real Qdrant');
} else {
  const { url, apiKey, drop } = qdrant;
  describeVectorStore(`Qdrant at ${new URL(url).host}`, {
    open: (collection) => createQdrantVectorStore({ url, apiKey, collection, timeoutMs: 30_000 }),
    drop,
  });
}
