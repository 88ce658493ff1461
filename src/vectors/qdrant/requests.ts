import type { Schemas } from '@qdrant/js-client-rest';
import { VitrineError } from '../../errors/vitrine-error.ts';
import { assertCompleted, type CallOptions, type QdrantConnection, type Send } from './connection.ts';
import type { WirePayload, WirePoint } from './points.ts';
import { VECTOR_NAME } from './points.ts';

/** The requests that several parts of the store make, of one collection. */
export interface QdrantRequests {
  readonly inCollection: { readonly collection_name: string };
  /** @throws VitrineError `store_rejected` also for an answer that the options accept */
  call<T>(what: string, send: Send<T>, options?: CallOptions<T>): Promise<T>;
  /** Writes each point unless what is stored under its id is newer, however often or late the request arrives. */
  write(points: readonly WirePoint[]): Promise<void>;
  /** What is stored under the ids, tombstones included. */
  retrieve(ids: readonly string[]): Promise<Map<string, WirePayload>>;
  /** With the vector that search by pictures compares. */
  retrieveWithVectors(ids: readonly string[]): Promise<readonly Schemas['Record'][]>;
  /** All that match, page by page. */
  scroll(
    filter: Schemas['Filter'],
    content: ScrollContent,
    pageSize?: number,
  ): AsyncGenerator<readonly Schemas['Record'][]>;
  count(filter: Schemas['Filter']): Promise<number>;
}

export interface ScrollContent {
  readonly withVector: boolean;
  /** All of it, none of it, or these fields. */
  readonly payload: boolean | readonly string[];
  /** Begins with this id. */
  readonly from?: string;
}

export const POINTS_PER_REQUEST = 128;
/** Where only a few of their fields are read. */
export const SMALL_POINTS_PER_REQUEST = 5_000;
const IDS_PER_REQUEST = 512;

export function createQdrantRequests(connection: QdrantConnection, collection: string): QdrantRequests {
  const inCollection = { collection_name: collection };
  const pointsPath = `/collections/${encodeURIComponent(collection)}/points`;

  async function call<T>(what: string, send: Send<T>, options?: CallOptions<T>): Promise<T> {
    const result = await connection.call(what, send, options);
    if (result === undefined) throw new VitrineError('store_rejected', `Qdrant refused: ${what}.`);
    return result;
  }

  async function* retrieveChunks(
    ids: readonly string[],
    size: number,
    withVector: string[] | false,
  ): AsyncGenerator<readonly Schemas['Record'][]> {
    for (const chunk of toChunks(ids, size)) {
      const body = { ids: chunk, with_payload: true, with_vector: withVector };
      yield await call('retrieve points', connection.post<Schemas['Record'][]>(pointsPath, body));
    }
  }

  return {
    inCollection,
    call,
    async write(points) {
      for (const batch of toChunks(points, POINTS_PER_REQUEST)) {
        const body = {
          points: batch.map(({ id, vector, payload }) => ({ id, vector, payload })),
          // One filter for all: each point of the request has an alternative of its own.
          update_filter: {
            should: batch.map(({ id, mayOverwrite }) => ({ must: [{ has_id: [id] }, mayOverwrite] })),
          },
        };
        await call(
          'upsert points',
          (api, options) => api.upsertPoints({ ...inCollection, wait: true, ...body }, options),
          { check: assertCompleted },
        );
      }
    },
    async retrieve(ids) {
      const found = new Map<string, WirePayload>();
      for await (const records of retrieveChunks(ids, IDS_PER_REQUEST, false))
        for (const { id, payload } of records) found.set(String(id), payload ?? {});
      return found;
    },
    async retrieveWithVectors(ids) {
      const found: Schemas['Record'][] = [];
      for await (const records of retrieveChunks(ids, POINTS_PER_REQUEST, [VECTOR_NAME]))
        found.push(...records);
      return found;
    },
    async *scroll(filter, { withVector, payload, from }, pageSize = POINTS_PER_REQUEST) {
      let offset: Schemas['ScrollResult']['next_page_offset'] = from;
      do {
        const body = {
          filter,
          limit: pageSize,
          with_payload: payload,
          with_vector: withVector ? [VECTOR_NAME] : false,
          ...(offset === undefined || offset === null ? {} : { offset }),
        };
        const page: Schemas['ScrollResult'] = await call(
          'scroll points',
          connection.post<Schemas['ScrollResult']>(`${pointsPath}/scroll`, body),
        );
        yield page.points;
        offset = page.next_page_offset;
      } while (offset !== undefined && offset !== null);
    },
    async count(filter) {
      const { count } = await call('count points', (api, options) =>
        api.countPoints({ ...inCollection, exact: true, filter }, options),
      );
      return count;
    },
  };
}

export function toChunks<T>(all: readonly T[], size: number): readonly (readonly T[])[] {
  const count = Math.ceil(all.length / size);
  return Array.from({ length: count }, (_, index) => all.slice(index * size, (index + 1) * size));
}
