import { once } from 'node:events';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

/** Hosts of images, each on a port of its own, so that Vitrine takes them for different ones. */
export interface ImageHosts extends AsyncDisposable {
  /** Answers with 429 and `Retry-After` to more than a few requests per second. */
  readonly limited: string;
  /** Knows each address only from its second request on: its first job fails, and would not when it is redriven. */
  readonly late: string;
  /** Takes a second or two for each image. */
  readonly slow: string;
  /** Requests that the limited host turned away. */
  readonly turnedAway: number;
}

const LIMIT_PER_SECOND = 4;

export async function startImageHosts(picture: Uint8Array): Promise<ImageHosts> {
  await using stack = new AsyncDisposableStack();
  const answer = (response: ServerResponse) =>
    response.writeHead(200, { 'content-type': 'image/png' }).end(picture);

  async function listen(handle: (path: string, response: ServerResponse) => void): Promise<string> {
    const server = createServer((request, response) => handle(request.url ?? '', response));
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    stack.defer(async () => {
      server.close();
      server.closeAllConnections();
    });
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  let turnedAway = 0;
  let served: number[] = [];
  const limited = await listen((_, response) => {
    const now = performance.now();
    served = served.filter((at) => now - at < 1_000);
    if (served.length < LIMIT_PER_SECOND) {
      served.push(now);
      answer(response);
      return;
    }
    turnedAway++;
    response.writeHead(turnedAway % 4 === 0 ? 503 : 429, { 'retry-after': '1' }).end();
  });

  const known = new Set<string>();
  const late = await listen((path, response) => {
    if (known.has(path)) answer(response);
    else response.writeHead(404).end();
    known.add(path);
  });

  let requests = 0;
  const slow = await listen(async (_, response) => {
    await delay(1_000 + (requests++ % 4) * 250);
    answer(response);
  });

  const servers = stack.move();
  return {
    limited,
    late,
    slow,
    get turnedAway() {
      return turnedAway;
    },
    [Symbol.asyncDispose]: () => servers.disposeAsync(),
  };
}
