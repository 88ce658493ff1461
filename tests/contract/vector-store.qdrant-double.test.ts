import { afterAll, expect, it } from 'vitest';
import { createQdrantVectorStore } from '../../src/vectors/qdrant/vector-store.ts';
import { startQdrantDouble } from '../support/qdrant-double.ts';
import { describeVectorStore } from './vector-store.contract.ts';

const apiKey = 'key of the double';
const double = await startQdrantDouble({ apiKey });

describeVectorStore('Qdrant double', {
  open: (collection) => createQdrantVectorStore({ url: double.url, apiKey, collection, timeoutMs: 20_000 }),
  async drop(collection) {
    await fetch(`${double.url}/collections/${collection}`, {
      method: 'DELETE',
      headers: { 'api-key': apiKey },
    });
  },
});

it('received and sent only what the API description of Qdrant allows', () => {
  expect(double.violations).toEqual([]);
});

afterAll(() => double[Symbol.asyncDispose]());
