import type { IncomingMessage, Server } from 'node:http';
import type { Socket } from 'node:net';
import type { AccessConfig } from '../../config/config.ts';
import { type ClientAddresses, toAddressGroup } from './client-address.ts';

/** Closes what is more than the allowed connections, of all and of one address. Proxies carry those of many. */
export function limitConnections(
  server: Server,
  { total, perAddress }: AccessConfig['connections'],
  addresses: Pick<ClientAddresses, 'isTrustedProxy'>,
): void {
  const counts = new Map<string, number>();
  server.maxConnections = total;
  server.on('connection', (socket: Socket) => {
    const { remoteAddress } = socket;
    if (remoteAddress === undefined || addresses.isTrustedProxy(remoteAddress)) return;
    const group = toAddressGroup(remoteAddress);
    const count = (counts.get(group) ?? 0) + 1;
    counts.set(group, count);
    socket.once('close', () => {
      const left = (counts.get(group) ?? 1) - 1;
      if (left === 0) counts.delete(group);
      else counts.set(group, left);
    });
    if (count > perAddress) socket.destroy();
  });
}

export interface BodyPace {
  /** Any body may take this long. */
  readonly graceMs: number;
  /** Beyond it, it must have come this fast on average. */
  readonly minBytesPerSecond: number;
  readonly checkMs: number;
}

const BODY_PACE: BodyPace = { graceMs: 60_000, minBytesPerSecond: 100_000, checkMs: 5_000 };

const TOO_SLOW = 'HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n';

interface ReceivedBody {
  readonly request: IncomingMessage;
  readonly from: number;
  readonly bytesBefore: number;
}

/** Ends requests whose bodies come too slowly: a client that drips them would keep the connection and its memory. */
export function limitSlowBodies(server: Server, pace: BodyPace = BODY_PACE): void {
  // The last one of each connection. An entry per request would grow and shrink the map all the time, and the tables
  // that it leaves behind keep what they held alive, until V8 collects its old objects.
  const bodies = new Map<Socket, ReceivedBody>();
  server.on('connection', (socket: Socket) => {
    socket.once('close', () => bodies.delete(socket));
  });
  server.on('request', (request: IncomingMessage) => {
    if (!hasBody(request)) return;
    const { socket } = request;
    bodies.set(socket, { request, from: performance.now(), bytesBefore: socket.bytesRead });
  });
  const timer = setInterval(() => {
    for (const [socket, { request, from, bytesBefore }] of bodies) {
      const allowedMs = pace.graceMs + ((socket.bytesRead - bytesBefore) / pace.minBytesPerSecond) * 1000;
      if (!request.complete && performance.now() - from <= allowedMs) continue;
      bodies.delete(socket);
      if (!request.complete) socket.end(TOO_SLOW, () => socket.destroy());
    }
  }, pace.checkMs);
  timer.unref();
  server.once('close', () => clearInterval(timer));
}

const hasBody = ({ headers }: IncomingMessage): boolean =>
  headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0;
