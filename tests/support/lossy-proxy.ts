import { once } from 'node:events';
import { connect, createServer, type Socket } from 'node:net';

/** Stands between a client and a server on loopback, and loses what a test wants lost. */
export interface LossyProxy extends AsyncDisposable {
  readonly port: number;
  /**
   * The next request that contains the text reaches the server, but its connection breaks instead of a reply.
   * Resolves when that has happened.
   */
  loseReplyTo(text: string): Promise<void>;
  /** Breaks all connections. */
  cut(): void;
}

export async function startLossyProxy(targetPort: number): Promise<LossyProxy> {
  const sockets = new Set<Socket>();
  let doomed: { readonly text: string; readonly done: () => void } | null = null;

  const server = createServer((client) => {
    const upstream = connect(targetPort, '127.0.0.1');
    let lost: (() => void) | null = null;
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => {
        sockets.delete(socket);
        client.destroy();
        upstream.destroy();
      });
    }
    client.on('data', (data) => {
      if (doomed !== null && data.includes(doomed.text)) {
        lost = doomed.done;
        doomed = null;
      }
      upstream.write(data);
    });
    upstream.on('data', (data) => {
      if (lost === null) {
        client.write(data);
        return;
      }
      client.destroy();
      lost();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const address = server.address();
  if (address === null || typeof address === 'string') throw new Error('no port');

  const cut = () => {
    for (const socket of sockets) socket.destroy();
  };
  return {
    port: address.port,
    cut,
    loseReplyTo: (text) =>
      new Promise((done) => {
        doomed = { text, done };
      }),
    async [Symbol.asyncDispose]() {
      server.close();
      cut();
    },
  };
}
