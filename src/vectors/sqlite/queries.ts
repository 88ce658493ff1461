import { findDuplicates } from '../duplicates.ts';
import type { StoredPoint, VectorStore } from '../port.ts';
import { search } from '../search.ts';
import { count, facets, getPayloads, listProducts, loadPoints, rank, scanPoints } from './reads.ts';
import type { StoreFile } from './store-file.ts';

/** What may look at every point. Each call blocks its thread for as long as SQLite works on a statement. */
export type Queries = Pick<VectorStore, 'search' | 'facets' | 'listProducts' | 'duplicates'>;

const POINTS_PER_SCAN = 500;

export function createQueries({ read }: StoreFile): Queries {
  const backend = {
    rank: (...[part, request, options]: Parameters<Parameters<typeof search>[0]['rank']>) =>
      read((collection) => rank(collection, part, request, options)),
    loadPoints: (ids: readonly string[]) => read((collection) => loadPoints(collection, ids)),
    getPayloads: (ids: readonly string[]) => read((collection) => getPayloads(collection, ids)),
    count: () => read(count),
    async *scan(): AsyncGenerator<readonly StoredPoint[]> {
      for (let after: number | null = 0; after !== null; ) {
        const from: number = after;
        const page = await read((collection) => scanPoints(collection, from, POINTS_PER_SCAN));
        yield page.points;
        after = page.last;
      }
    },
  };
  return {
    search: (request) => search(backend, request),
    facets: (request) => read((collection) => facets(collection, request)),
    listProducts: (request) => read((collection) => listProducts(collection, request)),
    duplicates: (request) => findDuplicates(backend, request),
  };
}
