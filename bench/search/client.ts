import { Agent, type IncomingMessage, request } from 'node:http';
import { text } from 'node:stream/consumers';

// Node's own client: what `fetch` takes for a request would count as the API's time.
const agent = new Agent({ keepAlive: true });

/** @throws Error when the answer is no 200 */
export async function postSearch(url: string, body: object): Promise<void> {
  const json = JSON.stringify(body);
  const answer = Promise.withResolvers<IncomingMessage>();
  const headers = { 'Content-Type': 'application/json', 'Content-Length': Buffer.byteLength(json) };
  request(`${url}/search`, { agent, method: 'POST', headers }, answer.resolve)
    .on('error', answer.reject)
    .end(json);
  const response = await answer.promise;
  const received = await text(response);
  if (response.statusCode !== 200)
    throw new Error(`A search was answered with ${response.statusCode}: ${received}`);
  JSON.parse(received);
}

export async function timeMs(work: () => Promise<unknown>): Promise<number> {
  const startedAt = performance.now();
  await work();
  return performance.now() - startedAt;
}

export const toFixed = (value: number): number => Number(value.toFixed(2));
