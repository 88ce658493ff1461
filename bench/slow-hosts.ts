import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { parseArgs } from 'node:util';
import { drawImage } from '../tests/support/images.ts';
import { startRedis } from '../tests/support/redis-server.ts';
import { type Host, index, toJobs } from './hosts.ts';

/**
 * Image hosts that are slow: how soon the picture of another host is indexed behind pictures that come a byte at a time,
 * and how many pictures per second are indexed from a host that takes its time for each.
 */
export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      redis: { type: 'boolean', default: false },
      'latency-ms': { type: 'string', default: '2000' },
      pictures: { type: 'string', default: '200' },
    },
  });
  const picture = await drawImage(1);
  await using redis = values.redis ? await startRedis() : null;
  const environment = {
    SHUTDOWN_GRACE_MS: '0',
    ...(redis !== null && { REDIS_URL: redis.url }),
  };
  console.log(`Queue on ${redis === null ? 'SQLite' : 'Redis'}\n`);

  await using dripping = await startHost((_, response) => {
    const timer = setInterval(() => response.write('x'), 50);
    response.on('close', () => clearInterval(timer));
  });
  for (const count of [40, 2_000]) {
    await using other = await startHost((_, response) => response.end(picture));
    const jobs = [...toJobs(dripping, count), ...toJobs(other, 1)];
    const { seconds } = await index(environment, jobs, 1);
    console.log(`A picture behind ${count} that drip: indexed after ${seconds.toFixed(1)} s (target ≤ 3)`);
  }

  const latencyMs = Number(values['latency-ms']);
  await using slow = await startHost((_, response) => {
    setTimeout(() => response.end(picture), latencyMs);
  });
  const pictures = Number(values.pictures);
  const { seconds, completed, dead } = await index(environment, toJobs(slow, pictures), pictures);
  const eightAtOnce = 8_000 / latencyMs;
  console.log(
    `${pictures} pictures of a host that takes ${latencyMs} ms for each: ${completed} completed, ${dead} dead`,
  );
  console.log(
    `  ${(pictures / seconds).toFixed(1)} per second; ${eightAtOnce.toFixed(1)} with eight fetches at a time`,
  );
}

async function startHost(answer: RequestListener): Promise<Pick<Host, 'url'> & AsyncDisposable> {
  const server = createServer(answer);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  return {
    url: `http://127.0.0.1:${port}`,
    [Symbol.asyncDispose]() {
      server.closeAllConnections();
      return new Promise((resolve) => server.close(() => resolve()));
    },
  };
}
