import { z } from '@hono/zod-openapi';
import { filterQuery, searchFilter } from '../routing/filter.ts';
import { imageRef, payload } from '../routing/payload.ts';
import { countOf, imageFields, productId, rule } from '../routing/schemas.ts';
import { MAX_WINDOW } from '../vectors/port.ts';
import { facetOptions, facetsReply } from './facets.ts';

const MAX_EXCLUDED = 1_000;
const WINDOW_TEXT = `With offset at most ${MAX_WINDOW}.`;

const weight = z.number().min(0).max(1_000).default(1);

const weights = z
  .strictObject({
    image: weight.openapi({ description: 'Of the image.' }),
    product: weight.openapi({ description: 'Of product_id.' }),
    text: weight.openapi({ description: 'Of the meaning of text, where the model has a text encoder.' }),
    words: weight.openapi({ description: 'Of the words of text.' }),
  })
  .openapi('Weights', {
    description: 'How much each part of the query counts, where there are several. 0 leaves it out.',
  });

const fraction = z.number().min(0).max(1);

const crop = z
  .strictObject({
    x: fraction.openapi({ description: 'Left edge.' }),
    y: fraction.openapi({ description: 'Upper edge.' }),
    width: fraction.gt(0),
    height: fraction.gt(0),
  })
  .refine(({ x, width }) => x + width <= 1.0001, { error: 'reaches beyond the right edge of the image' })
  .refine(({ y, height }) => y + height <= 1.0001, { error: 'reaches beyond the lower edge of the image' })
  .openapi('Crop', {
    description:
      'Search with this box of the image only, in fractions of the width and height of the upright image.',
    example: { x: 0.25, y: 0.25, width: 0.5, height: 0.5 },
  });

const options = {
  limit: z
    .int()
    .max(MAX_WINDOW)
    .nonnegative()
    .default(10)
    .openapi({
      description: `Hits. ${WINDOW_TEXT} 0: only the facets, and nothing to search with is needed.`,
    }),
  offset: z.int().nonnegative().default(0).openapi({ description: 'Hits to leave out from the start.' }),
  score_threshold: z.number().min(-1).max(1).optional().openapi({
    description:
      'The least cosine similarity of what an image, a product or a meaning finds. Words have none.',
  }),
  filter: searchFilter.optional(),
  exclude: z
    .array(productId)
    .max(MAX_EXCLUDED)
    .default([])
    .openapi({ description: 'Products that are left out of the hits.' }),
  group_by_product: z.boolean().default(true).openapi({
    description: 'True: a product appears once, with its best image.',
  }),
  diversify: fraction.default(0).openapi({
    description:
      'How much the first 100 hits should differ from each other (maximal marginal relevance). 0: they are ordered by score alone.',
  }),
};

const queries = {
  product_id: productId.optional().openapi({
    description: 'A stored product, which is left out of the hits.',
  }),
  text: z.string().min(1).max(1000).optional().openapi({
    description:
      'Found in name, description, brand, category and tags; by meaning too, where the model has a text encoder. The last word may be the beginning of one.',
  }),
  weights: weights.optional(),
  crop: crop.optional(),
};

const facets = facetOptions.optional();

const IMAGES = Object.keys(imageFields);
const QUERIES = [...IMAGES, 'product_id', 'text'];

const fitsWindow = rule(
  ({ limit, offset }) =>
    typeof limit !== 'number' || typeof offset !== 'number' || offset === 0 || limit + offset <= MAX_WINDOW,
  `and limit together must be at most ${MAX_WINDOW}`,
  'offset',
);
const zeroNeedsFacets = rule(
  ({ limit, facets }) => limit !== 0 || facets !== undefined,
  'must be at least 1 unless facets are asked for',
  'limit',
);

const required = (names: readonly string[]) => names.map((name) => ({ required: [name] }));

/** What to search with, and how. */
export const searchRequest = z
  .strictObject({ ...imageFields, ...queries, ...options, facets })
  .refine(...rule((value) => countOf(IMAGES, value) <= 1, `only one of ${IMAGES.join(', ')} may be given`))
  .refine(
    ...rule(
      (value) => countOf(QUERIES, value) > 0 || value['limit'] === 0,
      `at least one of ${QUERIES.join(', ')} must be given`,
    ),
  )
  .refine(
    ...rule((value) => value['crop'] === undefined || countOf(IMAGES, value) > 0, 'needs an image', 'crop'),
  )
  .refine(...fitsWindow)
  .refine(...zeroNeedsFacets)
  .openapi('SearchRequest', {
    allOf: [
      { anyOf: [...required(QUERIES), { required: ['limit'], properties: { limit: { const: 0 } } }] },
      { anyOf: [{ properties: { limit: { minimum: 1 } } }, { required: ['facets'] }] },
      { anyOf: [{ not: { required: ['crop'] } }, ...required(IMAGES)] },
      { not: { anyOf: pairsOf(IMAGES).map((pair) => ({ required: pair })) } },
    ],
  });

function pairsOf(names: readonly string[]): string[][] {
  return names.flatMap((one, at) => names.slice(at + 1).map((other) => [one, other]));
}

/** All but the image, for a search whose image comes as a file. */
export const searchOptions = z
  .strictObject({ ...queries, ...options, facets })
  .refine(...fitsWindow)
  .refine(...zeroNeedsFacets);

const jsonText = (name: string) =>
  z
    .string()
    .optional()
    .openapi({ description: `A JSON object, as in ${name}.` });

/** The form with the file, as it is sent. */
export const searchForm = z
  .strictObject({
    image: z.string().openapi({ format: 'binary', description: 'The image file.' }),
    product_id: queries.product_id,
    text: queries.text,
    weights: jsonText('SearchRequest'),
    crop: jsonText('SearchRequest'),
    limit: options.limit,
    offset: options.offset,
    score_threshold: options.score_threshold,
    filter: jsonText('SearchRequest'),
    exclude: options.exclude.openapi({ description: 'Repeat the field for several.' }),
    group_by_product: options.group_by_product,
    diversify: options.diversify,
    facets: jsonText('SearchRequest'),
  })
  .openapi('SearchForm');

const fromText = <Kind extends z.ZodType>(kind: Kind) =>
  z.preprocess((value) => (typeof value === 'string' && value.trim() !== '' ? Number(value) : value), kind);

/** Options in the query of an address. */
export const similarQuery = z
  .strictObject({
    limit: fromText(z.int().min(1).max(MAX_WINDOW).default(10)).openapi({
      type: 'integer',
      minimum: 1,
      maximum: MAX_WINDOW,
      description: WINDOW_TEXT,
    }),
    offset: fromText(z.int().nonnegative().default(0)).openapi({ type: 'integer', minimum: 0 }),
    score_threshold: fromText(z.number().min(-1).max(1).optional()).openapi({ type: 'number' }),
    diversify: fromText(fraction.default(0)).openapi({ type: 'number', minimum: 0, maximum: 1 }),
    ...filterQuery,
  })
  .refine(...fitsWindow);

export const searchReply = z
  .object({
    hits: z.array(
      z.object({
        product_id: z.string(),
        image_id: z.string(),
        score: z.number().openapi({
          description:
            'By an image, a product or a meaning alone: the cosine similarity, −1 to 1. By words alone: any positive number. By several: their fused ranks.',
        }),
        matched_by: z.array(z.enum(['image', 'text', 'words'])).openapi({
          description:
            'What found it: `image` the image or product, `text` the meaning of the text, `words` its words.',
        }),
        image_ref: imageRef,
        payload,
      }),
    ),
    facets: facetsReply.optional().openapi({ description: 'Where the request asks for them.' }),
    model: z.string(),
  })
  .openapi('SearchReply');
