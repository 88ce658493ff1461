import { describe, expect, it } from 'vitest';
import type { WorkerReport } from '../../src/ports/worker-registry.ts';
import { until } from '../support/until.ts';
import type { QueueHarness } from './job-queue.contract.ts';

const report = (id: string): WorkerReport => ({
  id,
  host: 'host',
  pid: 42,
  state: 'working',
  model: 'builtin',
  concurrency: 8,
  inFlight: 3,
  done: 10,
  failed: 1,
  imagesPerSecond: 2.5,
  memoryBytes: 1_000_000,
  uptimeMs: 5_000,
});

/** What every registry of workers must do. */
export function describeWorkerRegistry(name: string, harness: QueueHarness): void {
  describe(`worker registry on ${name}`, () => {
    it('lists who is alive, by id, with what they said last', async () => {
      await using backend = await harness.open();
      const { registry } = backend;
      expect(await registry.list()).toEqual([]);
      await registry.beat(report('b'), 60_000);
      await registry.beat(report('a'), 60_000);
      await registry.beat({ ...report('b'), done: 11 }, 60_000);
      const workers = await registry.list();
      expect(workers.map(({ id }) => id)).toEqual(['a', 'b']);
      expect(workers[1]).toMatchObject({ ...report('b'), done: 11 });
      expect(workers[1]!.lastSeenMs).toBeGreaterThanOrEqual(0);
      expect(workers[1]!.lastSeenMs).toBeLessThan(60_000);
    });

    it('drops who stopped at once, and who is silent after its time', async () => {
      await using backend = await harness.open();
      const { registry } = backend;
      await registry.beat(report('stops'), 60_000);
      await registry.beat(report('killed'), 30);
      await registry.beat(report('stays'), 60_000);
      await registry.remove('stops');
      await registry.remove('unheard of');
      await until('the silent one is gone', async () => (await registry.list()).length === 1 || undefined);
      expect(await registry.list()).toMatchObject([{ id: 'stays' }]);
    });
  });
}
