import { setTimeout as sleep } from 'node:timers/promises';
import { Client } from 'undici';
import { toJobBody } from './job-body.ts';
import { percentile } from './report.ts';

/** What `load.ts` is started with, as JSON. */
export interface LoadOptions {
  readonly url: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly connections: number;
  /** Jobs per request: one as JSON, several as NDJSON. */
  readonly jobs: number;
  /** Not counted. */
  readonly warmUpMs: number;
  readonly measureMs: number;
}

/** What `load.ts` prints, as JSON. */
export interface LoadResult {
  /** All that were answered, the warm-up included. */
  readonly requests: number;
  readonly requestsPerSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
}

// Sends requests over each connection, one after the other, in a process of its own. Any answer but 202 ends it.
const options = JSON.parse(process.argv[2] ?? '') as LoadOptions;
const { url, path, headers, connections, jobs } = options;
const latencies: number[] = [];
let isMeasuring = false;
let isOver = false;
let next = 0;
let requests = 0;

function toBody(): string {
  next += jobs;
  if (jobs === 1) return JSON.stringify(toJobBody(next));
  return Array.from({ length: jobs }, (_, index) => JSON.stringify(toJobBody(next + index))).join('\n');
}

function send(client: Client): void {
  if (isOver) return void client.destroy();
  const from = performance.now();
  // The leanest way: this process must not be what is measured.
  client.dispatch(
    { path, method: 'POST', headers, body: toBody() },
    {
      onRequestStart() {},
      onResponseStart(_, status) {
        if (status !== 202) throw new Error(`The server answered ${status}.`);
      },
      onResponseData() {},
      onResponseEnd() {
        requests++;
        if (isMeasuring) latencies.push(performance.now() - from);
        send(client);
      },
      onResponseError(_, error) {
        if (!isOver) throw error;
      },
    },
  );
}

for (let n = 0; n < connections; n++) send(new Client(url, { pipelining: 1 }));
await sleep(options.warmUpMs);
isMeasuring = true;
const from = performance.now();
await sleep(options.measureMs);
isMeasuring = false;
const seconds = (performance.now() - from) / 1000;
isOver = true;
const result: LoadResult = {
  requests,
  requestsPerSecond: latencies.length / seconds,
  p50Ms: percentile(latencies, 0.5),
  p99Ms: percentile(latencies, 0.99),
};
console.log(JSON.stringify(result));
