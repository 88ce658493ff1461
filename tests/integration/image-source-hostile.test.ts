import { getCACertificates, setDefaultCACertificates } from 'node:tls';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { createImageSource } from '../../src/images/image-source.ts';
import {
  HOSTILE_MAX_BYTES,
  HOSTILE_SERVERS,
  LOCALHOST_CERTIFICATE,
  PIXEL,
  resolveHostile,
} from '../fixtures/hostile/servers.ts';
import { imageSettings } from '../support/image-settings.ts';

const TIMEOUT_MS = 700;
const never = new AbortController().signal;
const trusted = getCACertificates();
beforeAll(() => setDefaultCACertificates([...trusted, LOCALHOST_CERTIFICATE]));
afterAll(() => setDefaultCACertificates(trusted));

const open = (resolve: boolean) =>
  createImageSource({
    ...imageSettings,
    allowedHosts: ['127.0.0.1'],
    timeoutMs: TIMEOUT_MS,
    maxBytes: HOSTILE_MAX_BYTES,
    ...(resolve && { resolveHost: resolveHostile }),
  });

describe.concurrent('a fetch from', () => {
  it.each(HOSTILE_SERVERS)('$name ends with $code', async ({ code, needs, start }) => {
    await using server = await start();
    await using source = open(needs === 'dns');
    const startedAt = performance.now();
    const outcome: unknown = await source
      .fetch({ kind: 'url', url: server.url }, never)
      .catch((error: unknown) => error);
    if (code === null) expect(Buffer.from(outcome as Uint8Array)).toEqual(PIXEL);
    else expect(outcome).toMatchObject({ name: 'VitrineError', code });
    expect(performance.now() - startedAt).toBeLessThan(3 * TIMEOUT_MS);
  });
});
