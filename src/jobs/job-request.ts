import { z } from '@hono/zod-openapi';
import { PRIORITIES } from '../queue/job.ts';
import {
  exactlyOne,
  imageFields,
  imageId,
  instant,
  notBoth,
  productFields,
  productId,
} from '../routing/schemas.ts';

const YEAR_SECONDS = 31_536_000;
const DAY_MS = 86_400_000;

const fields = {
  product_id: productId,
  image_id: imageId.default('main'),
  ...productFields,
  priority: z.enum(PRIORITIES).default('normal'),
  version: z.int().nonnegative().optional().openapi({
    description: 'Orders the states of one product image; without it, the order of enqueueing decides.',
  }),
  delay_seconds: z.number().nonnegative().max(YEAR_SECONDS).optional().openapi({
    description: 'Not before so many seconds from now. Not together with run_at.',
  }),
  run_at: instant
    .optional()
    .openapi({ description: 'Not before this instant. Not together with delay_seconds.' }),
  retry: z
    .strictObject({
      attempts: z
        .int()
        .min(1)
        .max(100)
        .optional()
        .openapi({ description: 'In all, the first one included.' }),
      base_ms: z.int().nonnegative().max(DAY_MS).optional(),
      factor: z.number().min(1).max(10).optional(),
      cap_ms: z.int().nonnegative().max(DAY_MS).optional(),
      jitter: z.number().min(0).max(1).optional(),
    })
    .optional()
    .openapi({ description: 'What differs from the settings RETRY_*.' }),
  soft_timeout_ms: z.int().min(100).max(DAY_MS).optional().openapi({
    description: 'An attempt that takes longer is stopped and retried.',
  }),
  hard_timeout_ms: z
    .int()
    .min(1000)
    .max(7 * DAY_MS)
    .optional()
    .openapi({
      description: 'A job that takes longer, all attempts together, fails.',
    }),
};

const SOURCES = ['image_url', 'image_path', 'image_base64'];
const oneSource = exactlyOne(SOURCES);
const oneTime = notBoth('delay_seconds', 'run_at');

/** One image job as JSON. */
export const jobRequest = z
  .strictObject({ ...fields, ...imageFields })
  .refine(...oneSource)
  .refine(...oneTime)
  .openapi('JobRequest', { oneOf: SOURCES.map((name) => ({ required: [name] })) });

export type JobRequest = z.infer<typeof jobRequest>;
export type JobFields = z.infer<typeof jobFields>;

/** The job alone, for one whose image comes as a file. */
export const jobFields = z.strictObject(fields).refine(...oneTime);

/** The form with the file, for the document; `parseForm` makes `jobFields` of it. */
export const jobForm = z
  .strictObject({
    ...fields,
    image: z.string().openapi({ format: 'binary', description: 'The image file.' }),
    tags: z.array(z.string()).max(100).optional().openapi({ description: 'Repeat the field for several.' }),
    metadata: z.string().optional().openapi({ description: 'A JSON object.' }),
    retry: z.string().optional().openapi({ description: 'A JSON object, as in JobRequest.' }),
  })
  .openapi('JobForm');

export const jobBatch = z.array(jobRequest).min(1).max(10_000).openapi('JobBatch');

export const MAX_BATCH_JOBS = 10_000;
