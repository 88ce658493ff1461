import type { z } from '@hono/zod-openapi';
import { toWireJob } from '../jobs/wire.ts';
import type { JobView } from '../queue/port.ts';
import type { webhookEvent } from './schemas.ts';

/** What a receiver is sent about a job that has ended. Which worker ran it is nobody's business outside. */
export function toWebhookEvent(job: JobView): z.input<typeof webhookEvent> {
  const { worker_id: _, history, status, ...wire } = toWireJob(job);
  const end = status as 'completed' | 'failed' | 'cancelled';
  return {
    type: `job.${end}`,
    timestamp: new Date(job.endedAt ?? 0).toISOString(),
    data: { ...wire, status: end, history: history.map(({ worker_id: __, ...attempt }) => attempt) },
  };
}
