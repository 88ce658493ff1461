import { z } from '@hono/zod-openapi';
import { count, instant } from '../routing/schemas.ts';

export const historyMinute = z.object({
  at: instant.openapi({ description: 'When the minute began.' }),
  completed: count.openapi({ description: 'In this minute, like `failed` and `cancelled`.' }),
  failed: count,
  cancelled: count,
  waiting: count.openapi({ description: 'At its end, like the others below.' }),
  delayed: count,
  processing: count,
  dead: count,
  workers_alive: count,
});

export const queueHistory = z
  .object({ minutes: z.array(historyMinute).max(60).openapi({ description: 'Oldest first.' }) })
  .openapi('QueueHistory');
