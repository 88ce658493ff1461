import { once } from 'node:events';
import { get, type IncomingMessage } from 'node:http';
import { setTimeout as delay } from 'node:timers/promises';
import { parentPort, workerData } from 'node:worker_threads';

// Asks /livez all the time, in a thread of its own: what the test itself does must not make answers look late.
let slowestMs = 0;
let failure: string | null = null;
/** When the request under way was sent. */
let sentAt: number | null = null;

parentPort?.on('message', () => {
  const waitedMs = sentAt === null ? 0 : performance.now() - sentAt;
  parentPort?.postMessage({ slowestMs: Math.max(slowestMs, waitedMs), failure });
  slowestMs = 0;
});

for (;;) {
  const from = performance.now();
  sentAt = from;
  try {
    const request = get(`${workerData}/livez`, { agent: false });
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    response.resume();
    await once(response, 'end');
    if (response.statusCode !== 200) failure = `status ${response.statusCode}`;
  } catch (error) {
    failure = String(error);
  }
  sentAt = null;
  slowestMs = Math.max(slowestMs, performance.now() - from);
  await delay(20);
}
