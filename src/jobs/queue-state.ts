import type { z } from '@hono/zod-openapi';
import type { Config } from '../config/config.ts';
import type { JobQueue } from '../queue/port.ts';
import { toAlerts } from './alerts.ts';
import type { queueStats, workerList } from './schemas.ts';
import { toWireStats, toWireWorkers } from './wire.ts';

export interface QueueStateParts {
  readonly config: Pick<Config, 'alerts' | 'queue'>;
  readonly queue: Pick<JobQueue, 'stats' | 'workers'>;
}

export interface QueueState {
  readonly stats: z.input<typeof queueStats>;
  readonly workers: z.input<typeof workerList>;
}

/** The queue and its workers now, as clients see them. @throws VitrineError `queue_unavailable`, `queue_unsafe` */
export async function readQueueState({ config, queue }: QueueStateParts): Promise<QueueState> {
  const [stats, workers] = await Promise.all([queue.stats(), queue.workers()]);
  return {
    stats: toWireStats(stats, workers, toAlerts(stats, workers.length, config)),
    workers: toWireWorkers(workers),
  };
}
