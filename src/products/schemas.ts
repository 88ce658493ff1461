import { z } from '@hono/zod-openapi';
import { JOB_STATUSES, STAGES } from '../queue/job.ts';
import { filterQuery } from '../routing/filter.ts';
import { imageRef, payload } from '../routing/payload.ts';
import { count, imageId, instant, productFields, productId, rule } from '../routing/schemas.ts';

export const productParams = z.object({ product_id: productId });
export const imageParams = z.object({ product_id: productId, image_id: imageId });

// Requests

export const MAX_PAGE = 1_000;

export const listQuery = z.strictObject({
  limit: z.coerce
    .number()
    .int()
    .min(1)
    .max(MAX_PAGE)
    .default(50)
    .openapi({ description: 'Products per page.' }),
  cursor: z
    .string()
    .min(1)
    .max(2_000)
    .optional()
    .openapi({ description: '`next_cursor` of the last page, with the same filter.' }),
  ...filterQuery,
});

export const duplicatesQuery = z.strictObject({
  threshold: z.coerce.number().min(0.8).max(1).default(0.98).openapi({
    description: 'The least cosine similarity of two images that are nearly the same.',
  }),
  limit: z.coerce.number().int().min(1).max(MAX_PAGE).default(100).openapi({
    description: 'Groups at most, the largest first.',
  }),
});

const { metadata, ...fields } = productFields;
const FIELDS = Object.keys(productFields);

/** A field that keeps its value when it isn't given, and loses it by null. */
const orNull = <Field extends z.ZodType>(field: z.ZodOptional<Field>) => field.unwrap().nullable().optional();

export const productPatch = z
  .strictObject({
    name: orNull(fields.name),
    description: orNull(fields.description),
    category: orNull(fields.category),
    brand: orNull(fields.brand),
    price: orNull(fields.price),
    currency: orNull(fields.currency),
    tags: orNull(fields.tags),
    metadata: metadata.openapi({
      description: 'Each key is a field of its own: what is not named stays, null removes it.',
    }),
  })
  .refine(
    ...rule((value) => Object.keys(value).length > 0, `at least one of ${FIELDS.join(', ')} must be given`),
  )
  .openapi('ProductPatch', {
    description: 'What is not named stays; null removes it.',
    minProperties: 1,
    example: { price: 39.9, tags: ['brass', 'sale'], metadata: { stock: 4 } },
  });

// Replies

const productImage = z
  .object({
    image_id: z.string(),
    state: z.enum(['indexed', 'pending', 'failed']).openapi({
      description:
        '`indexed`: it can be found. `pending`: not yet, a job for it waits or runs. `failed`: its job is a dead letter.',
    }),
    point_id: z.string().nullable().openapi({ description: 'Null unless it is indexed, as what follows.' }),
    image_ref: imageRef,
    payload: z.union([payload, z.null()]),
  })
  .openapi('ProductImage');

const productJob = z
  .object({
    job_id: z.string(),
    image_id: z.string(),
    status: z.enum(JOB_STATUSES),
    stage: z.enum(STAGES).nullable(),
    enqueued_at: instant,
    last_error: z.object({ code: z.string(), message: z.string(), suggestion: z.string() }).nullable(),
    status_url: z.string(),
  })
  .openapi('ProductJob');

export const productView = z
  .object({
    product_id: z.string(),
    images: z.array(productImage),
    jobs: z.array(productJob).nullable().openapi({
      description:
        'That wait, run or are dead letters, those that were asked to stop left out. Null while the queue is unreachable.',
    }),
  })
  .openapi('Product');

export const productPage = z
  .object({
    products: z.array(z.object({ product_id: z.string(), images: z.array(productImage) })),
    next_cursor: z.string().nullable().openapi({ description: 'Null on the last page.' }),
  })
  .openapi('ProductPage');

export const deletedProduct = z
  .object({
    product_id: z.string(),
    deleted_images: count.openapi({ description: 'Images that could be found until now.' }),
    cancelled_jobs: count.openapi({ description: 'Jobs that waited or were dead letters.' }),
  })
  .openapi('DeletedProduct');

export const duplicatesReply = z
  .object({
    groups: z.array(
      z.object({
        kind: z.enum(['exact', 'near']).openapi({ description: '`exact`: all have the same bytes.' }),
        images: z.array(
          z.object({
            product_id: z.string(),
            image_id: z.string(),
            image_ref: imageRef,
            content_hash: z.string().openapi({ description: 'SHA-256 of the image file.' }),
            similarity: z.number().openapi({ description: 'The greatest with another image of the group.' }),
          }),
        ),
      }),
    ),
    total_groups: count.openapi({ description: 'Found, also beyond the limit.' }),
    images: count.openapi({ description: 'That were compared.' }),
  })
  .openapi('Duplicates');
