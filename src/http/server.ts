import { once } from 'node:events';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createAdaptorServer } from '@hono/node-server';
import { VitrineError } from '../errors/vitrine-error.ts';
import { type ApiParts, createApp } from './app.ts';
import { createReadiness } from './readiness.ts';

/** A client that is slower than this with its whole request is cut off. */
const REQUEST_TIMEOUT_MS = 300_000;
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
 * @throws VitrineError `listen_failed`
 */
export async function startServer(parts: ApiParts): Promise<RunningServer> {
  const { config, logger } = parts;
  const readiness = createReadiness(parts);
  const app = createApp(parts, readiness);
  const server = createAdaptorServer({
    fetch: app.fetch,
    hostname: config.host,
    serverOptions: {
      requestTimeout: REQUEST_TIMEOUT_MS,
      headersTimeout: HEADERS_TIMEOUT_MS,
      keepAliveTimeout: KEEP_ALIVE_MS,
      maxHeaderSize: MAX_HEADER_BYTES,
    },
  }) as Server;
  const url = await listen(server, config.host, config.port);
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
      stopped ??= close(server, config.worker.shutdownGraceMs);
      return stopped;
    },
  };
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
