import { z } from '@hono/zod-openapi';
import { count, exactlyOne } from '../routing/schemas.ts';
import { jobId, jobView } from './job-view.ts';

const code = z
  .string()
  .min(1)
  .max(100)
  .openapi({ description: 'An error code.', example: 'image_not_found' });
const MAX_IDS = 10_000;

export const deadQuery = z.strictObject({
  code: code.optional(),
  limit: z.coerce.number().int().min(1).max(1000).default(100),
  cursor: z.string().min(1).max(500).optional().openapi({ description: '`next_cursor` of the last page.' }),
});

export const exportQuery = z.strictObject({ code: code.optional() });

export const deadPage = z
  .object({
    jobs: z.array(jobView),
    next_cursor: z.string().nullable().openapi({ description: 'Null on the last page.' }),
    total: count,
  })
  .openapi('DeadPage');

const SELECTIONS = ['ids', 'code', 'all'];

export const redriveRequest = z
  .strictObject({
    ids: z.array(jobId).min(1).max(MAX_IDS).optional(),
    code: code.optional(),
    all: z.literal(true).optional(),
  })
  .refine(...exactlyOne(SELECTIONS))
  .openapi('RedriveRequest', { oneOf: SELECTIONS.map((name) => ({ required: [name] })) });

export const purgeQuery = z
  .strictObject({
    id: z
      .union([jobId.transform((id) => [id]), z.array(jobId).min(1).max(1000)])
      .optional()
      .openapi({
        type: 'array',
        items: { type: 'string', format: 'uuid' },
        description: 'Repeat it for several.',
      }),
    code: code.optional(),
    all: z.literal('true').optional(),
  })
  .refine(...exactlyOne(['id', 'code', 'all']));

export const redrivenJobs = z.object({ redriven: count }).openapi('RedrivenJobs');
