import { z } from '@hono/zod-openapi';
import { durationMs } from '../routing/schemas.ts';

const dependency = z.object({
  state: z.enum(['up', 'down']),
  kind: z.string().openapi({ example: 'sqlite' }),
  latency_ms: durationMs.nullable(),
  error: z.object({ code: z.string(), detail: z.string(), suggestion: z.string() }).nullable(),
});

const model = z.object({
  state: z.enum(['ready', 'loading', 'failed']),
  id: z.string(),
  dimension: z.int().positive(),
  error: z.object({ code: z.string(), detail: z.string(), suggestion: z.string() }).nullable(),
});

export const health = z
  .object({
    status: z.enum(['ok', 'degraded', 'down']).openapi({
      description: '`down`: jobs cannot be accepted. `degraded`: they can, but something else does not work.',
    }),
    uptime_ms: durationMs,
    dependencies: z.object({ queue: dependency, store: dependency, model }),
  })
  .openapi('Health');

export const alive = z.object({ status: z.literal('ok') }).openapi('Alive');
