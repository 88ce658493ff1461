import { createServer, type IncomingHttpHeaders, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Webhook } from 'standardwebhooks';

export const SECRETS = ['new', 'old'].map(
  (name) => `whsec_${Buffer.from(name.padEnd(32, '.')).toString('base64')}`,
) as [string, string];

export interface ReceivedMessage {
  readonly path: string;
  readonly headers: IncomingHttpHeaders;
  readonly body: string;
}

/** A receiver of webhooks on loopback that keeps what it gets. Paths without an answer of their own get 204. */
export interface Receiver extends AsyncDisposable {
  readonly origin: string;
  readonly messages: readonly ReceivedMessage[];
  of(path: string): readonly ReceivedMessage[];
}

export async function startReceiver(
  answers: Readonly<Record<string, RequestListener>> = {},
): Promise<Receiver> {
  const messages: ReceivedMessage[] = [];
  const server = createServer(async (request, response) => {
    const path = request.url ?? '';
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    messages.push({ path, headers: request.headers, body: Buffer.concat(chunks).toString() });
    const answer = answers[path];
    if (answer === undefined) response.writeHead(204).end();
    else answer(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    origin,
    messages,
    of: (path) => messages.filter((message) => message.path === path),
    async [Symbol.asyncDispose]() {
      server.closeAllConnections();
      await new Promise((resolve) => server.close(resolve));
    },
  };
}

/** The message as a receiver with this secret verifies it, by the library of the specification's authors; or it throws. */
export function verify({ headers, body }: ReceivedMessage, secret: string): unknown {
  return new Webhook(secret).verify(body, headers as Record<string, string>);
}
