import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createAdaptorServer } from '@hono/node-server';
import type { Config } from '../config/config.ts';
import { VitrineError } from '../errors/vitrine-error.ts';
import { createQueueMonitor } from '../monitor/monitor.ts';
import { createClientAddresses } from './access/client-address.ts';
import { limitConnections, limitSlowBodies } from './access/connections.ts';
import { openKeyring, requireKeys } from './access/keyring.ts';
import type { SharedCounts } from './access/rate-limit.ts';
import { type ApiParts, createApp } from './app.ts';
import { createReadiness } from './readiness.ts';

const HEADERS_TIMEOUT_MS = 15_000;
const KEEP_ALIVE_MS = 10_000;
const MAX_HEADER_BYTES = 16_384;
const IDLE_CHECK_MS = 100;

export interface RunningServer {
  /** With the port that was really taken. */
  readonly url: string;
  /** Takes no more connections, lets running requests end within the grace, then cuts them. */
  stop(): Promise<void>;
}

/**
 * Serves the API on the configured address. It listens before it connects to anything: the model is loaded and the
 * collection made in the background, and /readyz says when.
 * @throws VitrineError `listen_failed`; `anonymous_not_allowed`; `invalid_configuration` for a faulty file of keys
 */
export async function startServer(parts: ApiParts): Promise<RunningServer> {
  const { config, logger } = parts;
  const readiness = createReadiness(parts);
  const keyring = openKeyring(config.access, logger);
  requireKeys(config, keyring);
  const sharedCounts = await connectSharedCounts(config);
  const monitor = createQueueMonitor(parts);
  const app = createApp(parts, { readiness, keyring, sharedCounts, monitor });
  const server = createAdaptorServer({
    fetch: app.fetch,
    hostname: config.host,
    serverOptions: {
      // A fast client may send much, and a slow one little: limitSlowBodies knows which is which.
      requestTimeout: 0,
      headersTimeout: HEADERS_TIMEOUT_MS,
      keepAliveTimeout: KEEP_ALIVE_MS,
      maxHeaderSize: MAX_HEADER_BYTES,
    },
  }) as Server;
  limitConnections(server, config.access.connections, createClientAddresses(config.access));
  limitSlowBodies(server);
  const closeParts = () => {
    monitor[Symbol.dispose]();
    keyring[Symbol.dispose]();
    sharedCounts?.client.disconnect();
  };
  const url = await listen(server, config.host, config.port).catch((error: unknown) => {
    closeParts();
    throw error;
  });
  monitor.startHistory();
  logger.info({ url }, 'listening');
  readiness.prepare().then(
    () => logger.info({ model: parts.embedder.model.id }, 'ready to search'),
    (error: unknown) => logger.error({ error }, 'not ready to search'),
  );

  let stopped: Promise<void> | null = null;
  return {
    url,
    stop() {
      readiness.drain();
      stopped ??= close(server, config.worker.shutdownGraceMs).finally(closeParts);
      return stopped;
    },
  };
}

async function connectSharedCounts({ queue, access }: Config): Promise<SharedCounts | null> {
  const { perKey, perAddress } = access.rateLimits;
  if (queue.redis === undefined || (perKey === 0 && perAddress === 0)) return null;
  const { createCounterClient } = await import('../queue/redis/connection.ts');
  return { client: createCounterClient(queue.redis), prefix: queue.prefix };
}

async function listen(server: Server, host: string, port: number): Promise<string> {
  server.listen(port, host);
  try {
    await once(server, 'listening');
  } catch (error) {
    throw toListenError(error as NodeJS.ErrnoException, host, port);
  }
  const address = server.address() as AddressInfo;
  return `http://${address.family === 'IPv6' ? `[${address.address}]` : address.address}:${address.port}`;
}

function toListenError(error: NodeJS.ErrnoException, host: string, port: number): VitrineError {
  const sentences: Readonly<Record<string, string>> = {
    EADDRINUSE: `Port ${port} on ${host} is used by another program.`,
    EACCES: `This user may not listen on port ${port}.`,
    EADDRNOTAVAIL: `${host} is not an address of this machine.`,
    ENOTFOUND: `${host} is not a known host name.`,
  };
  const detail = sentences[error.code ?? ''] ?? `Listening on port ${port} of ${host} failed.`;
  return new VitrineError('listen_failed', detail, { cause: error });
}

async function close(server: Server, graceMs: number): Promise<void> {
  const closed = new Promise<void>((resolve) => {
    server.close(() => resolve());
  });
  // A connection becomes idle when its running request ends.
  const idle = setInterval(() => server.closeIdleConnections(), IDLE_CHECK_MS);
  const grace = setTimeout(() => server.closeAllConnections(), graceMs);
  await closed;
  clearInterval(idle);
  clearTimeout(grace);
}
