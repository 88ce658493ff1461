import pLimit, { type LimitFunction } from 'p-limit';
import { type ImageRef, toImageHost } from '../catalog/product-image.ts';
import type { Clock } from '../observability/clock.ts';
import { createFetchPlaces } from './fetch-places.ts';

/** Bounds what is fetched at once for people who wait, so that no host holds up another. */
export interface FetchLimits {
  /** The outcome of work that fetches the image, once it had a place. */
  run<T>(image: ImageRef, work: () => Promise<T>): Promise<T>;
}

export interface FetchLimitsOptions {
  readonly count: number;
  /** Slow fetches that go on without a place. */
  readonly maxSlow: number;
  /** From one host, slow or not; further ones wait. */
  readonly perHost: number;
  readonly clock: Clock;
}

export function createFetchLimits({ count, maxSlow, perHost, clock }: FetchLimitsOptions): FetchLimits {
  const places = createFetchPlaces({ count, maxSlow, maxSlowPerHost: Number.POSITIVE_INFINITY, clock });
  /** A host is forgotten when it has no work left. */
  const hosts = new Map<string, { readonly limit: LimitFunction; users: number }>();

  return {
    async run(image, work) {
      const host = toImageHost(image);
      if (host === null) return places.run(null, work);
      const entry = hosts.get(host) ?? { limit: pLimit(perHost), users: 0 };
      hosts.set(host, entry);
      entry.users++;
      try {
        return await entry.limit(() => places.run(host, work));
      } finally {
        if (--entry.users === 0) hosts.delete(host);
      }
    },
  };
}
