import type { SeenWorker, WorkerRegistry, WorkerReport } from '../worker-registry.ts';
import type { RedisConnection } from './redis-connection.ts';
import type { QueueKeys } from './redis-keys.ts';
import { asList, asNumber, asText } from './redis-replies.ts';
import { SCRIPTS } from './redis-scripts.ts';

/** One key a worker, which Redis itself lets expire; and an index of them, so that nothing is scanned. */
export function createRedisRegistry(connection: RedisConnection, keys: QueueKeys): WorkerRegistry {
  const beat = (id: string, report: string, ttlMs: number) =>
    connection.run(SCRIPTS.beat, [keys.worker(id), keys.workers], [id, report, Math.ceil(ttlMs)]);
  return {
    async beat(report, ttlMs) {
      await beat(report.id, JSON.stringify(report), ttlMs);
    },

    async remove(id) {
      await beat(id, '', 0);
    },

    async list() {
      const ids = asList(await connection.call('ZRANGE', keys.workers, 0, -1)).map(asText);
      if (ids.length === 0) return [];
      const reply = await connection.run(SCRIPTS.listWorkers, [keys.workers, ...ids.map(keys.worker)], ids);
      const [now, ...found] = asList(reply);
      const workers: SeenWorker[] = [];
      for (const entry of found) {
        const seen = asText(asList(entry)[1]);
        if (seen === '') continue;
        const at = seen.indexOf(' ');
        const report = JSON.parse(seen.slice(at + 1)) as WorkerReport;
        workers.push({ ...report, lastSeenMs: Math.max(0, asNumber(now) - Number(seen.slice(0, at))) });
      }
      return workers.sort((a, b) => (a.id < b.id ? -1 : 1));
    },
  };
}
