import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

/** A network that can fail between a client and a server on loopback. */
export interface TcpProxy extends AsyncDisposable {
  readonly port: number;
  /** From now on what the server answers is dropped, while what the clients send arrives. */
  loseReplies(): void;
  /**
   * The next request that contains the text reaches the server, but its connection breaks instead of a reply.
   * Resolves when that has happened.
   */
  loseReplyTo(text: string): Promise<void>;
  /** Breaks all connections. */
  cut(): void;
  /**
   * Each piece is forwarded later, in both directions, even when its sender has gone meanwhile. Pieces of different
   * connections overtake each other when the delays differ.
   */
  slowDown(toDelayMs: () => number): void;
  /** Nobody listens any more, and every connection is cut. */
  refuse(): Promise<void>;
  /** Passes everything on again. Connections that have lost something are cut first. */
  heal(): Promise<void>;
}

type Mode = 'pass' | 'lose-replies' | 'refuse';

export async function startTcpProxy(targetPort: number): Promise<TcpProxy> {
  let mode: Mode = 'pass';
  let toDelayMs = () => 0;
  let doomed: { readonly text: string; readonly done: () => void } | null = null;
  const sockets = new Set<Socket>();

  function forward(from: Socket, to: Socket, isReply: boolean): void {
    let turn = Promise.resolve();
    const later = (work: () => void) => {
      const dueAt = performance.now() + toDelayMs();
      turn = turn.then(async () => {
        const waitMs = dueAt - performance.now();
        if (waitMs > 0) await delay(waitMs, undefined, { ref: false });
        if (!to.destroyed) work();
      });
    };
    from.on('data', (bytes) => {
      if (isReply && mode === 'lose-replies') return;
      later(() => to.write(bytes));
    });
    // What was sent before the end still arrives: a server acts on requests whose sender is gone.
    from.on('close', () => later(() => to.end()));
  }

  const server = createServer({ noDelay: true }, (client) => {
    const upstream = connect({ port: targetPort, host: '127.0.0.1', noDelay: true });
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => sockets.delete(socket));
    }
    client.on('data', (request) => {
      if (doomed === null || !request.includes(doomed.text)) return;
      const { done } = doomed;
      doomed = null;
      upstream.prependOnceListener('data', () => {
        client.destroy();
        done();
      });
    });
    forward(client, upstream, false);
    forward(upstream, client, true);
  });

  async function listen(port: number): Promise<number> {
    server.listen(port, '127.0.0.1');
    await once(server, 'listening');
    return (server.address() as AddressInfo).port;
  }

  function cut(): void {
    for (const socket of sockets) socket.destroy();
  }

  async function close(): Promise<void> {
    if (!server.listening) return;
    const closed = once(server, 'close');
    server.close();
    cut();
    await closed;
  }

  const port = await listen(0);
  return {
    port,
    loseReplies() {
      mode = 'lose-replies';
    },
    loseReplyTo(text) {
      const lost = Promise.withResolvers<void>();
      doomed = { text, done: lost.resolve };
      return lost.promise;
    },
    cut,
    slowDown(next) {
      toDelayMs = next;
    },
    async refuse() {
      mode = 'refuse';
      await close();
    },
    async heal() {
      const before = mode;
      mode = 'pass';
      toDelayMs = () => 0;
      if (before === 'lose-replies') cut();
      if (!server.listening) await listen(port);
    },
    [Symbol.asyncDispose]: close,
  };
}
