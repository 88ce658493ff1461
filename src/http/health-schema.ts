import { z } from '@hono/zod-openapi';
import { count, durationMs } from '../routing/schemas.ts';

const dependency = z.object({
  state: z.enum(['up', 'down']),
  kind: z.string().openapi({ example: 'sqlite' }),
  latency_ms: durationMs.nullable(),
  error: z.object({ code: z.string(), detail: z.string(), suggestion: z.string() }).nullable(),
});

const queue = dependency.extend({
  pending: count.nullable().openapi({ description: 'Jobs that have not ended; null while it is down.' }),
  spooled: count.openapi({
    description: 'Jobs that were accepted while it was down, and are not forwarded yet.',
  }),
});

const model = z.object({
  state: z.enum(['ready', 'loading', 'failed']),
  id: z.string().nullable().openapi({ description: 'Null until it is loaded.' }),
  dimension: z.int().positive().nullable(),
  error: z.object({ code: z.string(), detail: z.string(), suggestion: z.string() }).nullable(),
});

export const health = z
  .object({
    status: z.enum(['ok', 'degraded', 'down']).openapi({
      description: '`down`: jobs cannot be accepted. `degraded`: they can, but something else does not work.',
    }),
    uptime_ms: durationMs,
    dependencies: z.object({ queue, store: dependency, model }),
  })
  .openapi('Health');

export const alive = z.object({ status: z.literal('ok') }).openapi('Alive');
