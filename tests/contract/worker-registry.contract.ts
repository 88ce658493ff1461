import { describe, expect, it } from 'vitest';
import { until } from '../support/until.ts';
import { newWorkerReport as report } from '../support/worker-reports.ts';
import type { QueueHarness } from './job-queue.contract.ts';

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
