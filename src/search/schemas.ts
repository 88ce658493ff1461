import { z } from '@hono/zod-openapi';
import { imageRef, payload } from '../routing/payload.ts';
import { exactlyOne, imageFields, productId } from '../routing/schemas.ts';

const MAX_METADATA_KEYS = 32;

const keywords = z.union([z.string(), z.array(z.string()).min(1).max(1000)]);
const scalar = z.union([z.string(), z.number(), z.boolean()]);

const range = z
  .strictObject({
    gt: z.number().optional(),
    gte: z.number().optional(),
    lt: z.number().optional(),
    lte: z.number().optional(),
  })
  .refine((value) => Object.keys(value).length > 0, { error: 'must have at least one of gt, gte, lt, lte' })
  .openapi('NumberRange');

export const searchFilter = z
  .strictObject({
    product_id: keywords.optional(),
    image_id: keywords.optional(),
    category: keywords.optional(),
    brand: keywords.optional(),
    currency: keywords.optional(),
    tags: keywords.optional(),
    price: range.optional(),
    metadata: z
      .record(z.string(), z.union([scalar, z.array(scalar).min(1).max(1000), range]))
      .refine((value) => Object.keys(value).length <= MAX_METADATA_KEYS, {
        error: `must have at most ${MAX_METADATA_KEYS} keys`,
      })
      .optional()
      .openapi({
        description: 'By top-level keys of metadata: a value, one of several values, or a range.',
        maxProperties: MAX_METADATA_KEYS,
      }),
  })
  .openapi('SearchFilter', {
    description: 'Every given condition must hold; a list means any of its values.',
    example: { category: ['lamps', 'chairs'], price: { lte: 100 } },
  });

const options = {
  limit: z.int().min(1).max(1000).default(10),
  filter: searchFilter.optional(),
  group_by_product: z.boolean().default(true).openapi({
    description: 'True: a product appears once, with its best image.',
  }),
};

const QUERIES = ['image_url', 'image_path', 'image_base64', 'product_id', 'text'];
const oneQuery = exactlyOne(QUERIES);

/** What to search with, and how. */
export const searchRequest = z
  .strictObject({
    ...imageFields,
    product_id: productId.optional().openapi({
      description: 'Search with a stored product, which is left out of the hits.',
    }),
    text: z.string().min(1).max(1000).optional().openapi({
      description: 'Search with words, where the model has a text encoder.',
    }),
    ...options,
  })
  .refine(...oneQuery)
  .openapi('SearchRequest', { oneOf: QUERIES.map((name) => ({ required: [name] })) });

/** The options alone, for a search whose image comes as a file. */
export const searchOptions = z.strictObject(options);

/** The form with the file. */
export const searchForm = z
  .strictObject({
    image: z.string().openapi({ format: 'binary', description: 'The image file.' }),
    limit: options.limit,
    group_by_product: options.group_by_product,
    filter: z.string().optional().openapi({ description: 'A JSON object, as in SearchRequest.' }),
  })
  .openapi('SearchForm');

export const searchReply = z
  .object({
    hits: z.array(
      z.object({
        product_id: z.string(),
        image_id: z.string(),
        score: z.number().openapi({ description: 'Cosine similarity, −1 to 1.' }),
        image_ref: imageRef,
        payload,
      }),
    ),
    model: z.string(),
  })
  .openapi('SearchReply');
