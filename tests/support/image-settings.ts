import type { ImageSourceSettings } from '../../src/images/image-source.ts';

/** An image source that reads nothing and fetches from public addresses only. */
export const imageSettings: ImageSourceSettings = {
  roots: [],
  allowedHosts: [],
  allowedNetworks: [],
  sourceHeaders: {},
  contact: undefined,
  timeoutMs: 10_000,
  maxBytes: 20_000_000,
  connectionsPerHost: 8,
  maxBytesInFlight: 320_000_000,
};
