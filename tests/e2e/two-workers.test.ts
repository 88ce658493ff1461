import { join } from 'node:path';
import { expect, test } from 'vitest';
import { createSqliteVectorStore } from '../../src/vectors/sqlite/vector-store.ts';
import { openTestCatalog } from '../support/catalogs.ts';
import { createTempFolder } from '../support/context.ts';
import { createClient } from '../support/http-client.ts';
import { startProgram } from '../support/program.ts';
import { startRedis, whyNoRedis } from '../support/redis-server.ts';
import { until } from '../support/until.ts';

const reason = whyNoRedis();
if (reason !== null) console.log(`two workers on Redis: skipped, ${reason}`);

test.skipIf(reason !== null)(
  'an API and two workers apart: one is killed in the middle, and every image is indexed once',
  { timeout: 300_000 },
  async () => {
    await using stack = new AsyncDisposableStack();
    const folder = stack.use(await createTempFolder());
    const redis = stack.use(await startRedis());
    const { folder: images, products } = await openTestCatalog(join(folder.path, 'sample'));
    const environment = {
      REDIS_URL: redis.url,
      DATA_DIR: folder.path,
      IMAGE_ROOTS: images,
      MODEL: 'builtin',
      PORT: '0',
      // The killed worker's jobs come back soon enough for a test.
      LEASE_MS: '3000',
    };
    const api = stack.use(startProgram('src/main.ts', environment));
    const client = createClient(await until('the API', () => /http:\/\/[\d.:]+/.exec(api.output)?.[0]));
    const workers = [1, 2].map(() => stack.use(startProgram('workers/main.ts', environment)));
    const pids = await until('both workers', async () => {
      const alive = await client.workers();
      return alive.length === 2 ? alive.map(({ pid }) => pid) : undefined;
    });
    expect(pids.toSorted()).toEqual(workers.map(({ child }) => child.pid).toSorted());

    expect(await client.enqueueBatch(products)).toMatchObject({ accepted: products.length, rejected: [] });
    await until('a third of the work', async () => {
      const { completed } = await client.stats();
      return completed >= products.length / 3 ? true : undefined;
    });
    workers[0]!.child.kill('SIGKILL');
    const stats = await until(
      'the end of the work',
      async () => {
        const now = await client.stats();
        return now.total_pending === 0 ? now : undefined;
      },
      240_000,
    );
    expect(stats).toMatchObject({ completed: products.length, dead: 0 });

    // The stopped worker is off the list at once; the killed one when its heartbeat has run out.
    expect(await workers[1]!.stop()).toBe(0);
    expect((await client.workers()).map(({ pid }) => pid)).toEqual([workers[0]!.child.pid]);
    expect(await api.stop()).toBe(0);
    const store = stack.use(
      createSqliteVectorStore({ file: join(folder.path, 'vectors.sqlite'), collection: 'products' }),
    );
    expect(await store.count()).toBe(products.length);
  },
);
