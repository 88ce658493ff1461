import { until } from '../../tests/support/until.ts';
import { atMost, median, percentile, type Row } from '../support/report.ts';
import { postSearch, timeMs, toFixed } from './client.ts';

/** So many jobs wait at least while indexing runs. */
const BACKLOG = 500;
const WARM_UPS = 20;
const MAX_P99_RATIO = 3;

export interface IndexingLoad {
  /** A server, with a worker next to it or in it. */
  readonly url: string;
  /** What is searched with. */
  readonly picture: Buffer;
  /** What is indexed, again and again: paths that the worker may read. */
  readonly paths: readonly string[];
  /** The jobs are of these products, so that the store stays as large as it is. */
  readonly points: number;
  readonly rounds: number;
  /** Of each state in each round. */
  readonly seconds: number;
}

/** How much longer a search with an image takes while a worker indexes images, in turns with a paused queue. */
export async function measureWhileIndexing(load: IndexingLoad): Promise<Row> {
  const { url, picture, rounds, seconds } = load;
  const times = { idle: [] as number[], busy: [] as number[] };
  const producer = startProducer(load);
  await until('the worker', async () => ((await readStats(url)).completed > 0 ? true : undefined));
  const search = () => postSearch(url, { image_base64: picture.toString('base64') });
  for (let at = 0; at < WARM_UPS; at += 1) await search();
  let [indexed, busySeconds] = [0, 0];
  for (let round = 0; round < rounds; round += 1) {
    for (const state of ['busy', 'idle'] as const) {
      await setPaused(url, state === 'idle');
      const before = (await readStats(url)).completed;
      const startedAt = performance.now();
      while (performance.now() < startedAt + seconds * 1_000) times[state].push(await timeMs(search));
      if (state === 'idle') continue;
      indexed += (await readStats(url)).completed - before;
      busySeconds += (performance.now() - startedAt) / 1_000;
    }
  }
  await producer.stop();
  const p99 = { idle: percentile(times.idle, 0.99), busy: percentile(times.busy, 0.99) };
  const ratio = p99.busy / p99.idle;
  return {
    searches: times.idle.length + times.busy.length,
    'images indexed per s': Math.round(indexed / busySeconds),
    'idle p50, ms': toFixed(median(times.idle)),
    'busy p50, ms': toFixed(median(times.busy)),
    'idle p99, ms': toFixed(p99.idle),
    'busy p99, ms': toFixed(p99.busy),
    'p99 ratio': toFixed(ratio),
    ...atMost(ratio, MAX_P99_RATIO),
  };
}

interface Stats {
  readonly completed: number;
  readonly processing: number;
  readonly total_pending: number;
}

const readStats = async (url: string): Promise<Stats> =>
  (await (await fetch(`${url}/queue/stats`)).json()) as Stats;

/** Paused, and nothing runs any more; or resumed, and something does. */
async function setPaused(url: string, paused: boolean): Promise<void> {
  await (await fetch(`${url}/queue/${paused ? 'pause' : 'resume'}`, { method: 'POST' })).text();
  await until('the worker', async () =>
    (await readStats(url)).processing > 0 === !paused ? true : undefined,
  );
}

/** Keeps jobs waiting. */
function startProducer({ url, paths, points }: IndexingLoad): { stop(): Promise<void> } {
  let isStopped = false;
  let made = 0;
  const running = (async () => {
    while (!isStopped) {
      if ((await readStats(url)).total_pending < BACKLOG) {
        await enqueue(
          url,
          Array.from({ length: BACKLOG }, () => {
            const number = made++;
            return {
              product_id: `p${number % points}`,
              image_path: paths[number % paths.length],
              name: 'mug',
            };
          }),
        );
      }
      await new Promise((resolve) => setTimeout(resolve, 200));
    }
  })();
  return {
    async stop() {
      isStopped = true;
      await running;
    },
  };
}

async function enqueue(url: string, jobs: readonly object[]): Promise<void> {
  const response = await fetch(`${url}/queue/enqueue/batch`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify(jobs),
  });
  const { rejected } = (await response.json()) as { readonly rejected?: readonly unknown[] };
  if (rejected?.length !== 0) throw new Error(`The jobs were answered with ${response.status}.`);
}
