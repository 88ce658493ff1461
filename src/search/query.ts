import type { z } from '@hono/zod-openapi';
import type { Context } from 'hono';
import type { ImageRef } from '../catalog/product-image.ts';
import { VitrineError } from '../errors/vitrine-error.ts';
import { parseBodyKind, readForm, readJson } from '../routing/body.ts';
import { parseWith } from '../routing/faults.ts';
import { toSearchFilter } from '../routing/filter.ts';
import { type ImageLimits, parseFile, parseImageRef } from '../routing/image-fields.ts';
import type { QueryPart, SearchRequest } from '../vectors/port.ts';
import type { QueryVectors } from './query-vectors.ts';
import { searchOptions, searchRequest } from './schemas.ts';

/** What is searched with, and how. */
export type Query = z.output<typeof searchOptions> & { readonly image?: ImageRef | Uint8Array | undefined };

/**
 * The query of a request, which is JSON, or a form with the image as a file.
 * @throws VitrineError `unsupported_media_type`, `invalid_json`, `invalid_request`, `image_too_large`,
 * `image_path_forbidden`
 */
export async function readQuery(c: Context, limits: ImageLimits): Promise<Query> {
  if (parseBodyKind(c, ['json', 'form']) === 'json') {
    const { image_url, image_path, image_base64, ...query } = parseWith(searchRequest, await readJson(c));
    return { ...query, image: parseImageRef({ image_url, image_path, image_base64 }, limits) };
  }
  const { file, fields } = await readForm(c);
  return { ...parseWith(searchOptions, fields), image: parseFile(file, limits) };
}

/** @throws VitrineError of making its vectors; `invalid_request` when every weight is 0 */
export async function toSearchRequest(
  query: Query,
  vectors: QueryVectors,
  signal: AbortSignal,
): Promise<SearchRequest> {
  const { product_id: productId, filter, score_threshold: scoreThreshold } = query;
  return {
    parts: await toParts(query, vectors, signal),
    limit: query.limit,
    offset: query.offset,
    groupByProduct: query.group_by_product,
    diversify: query.diversify,
    excludeProductIds: productId === undefined ? query.exclude : [...query.exclude, productId],
    ...(filter !== undefined && { filter: toSearchFilter(filter) }),
    ...(scoreThreshold !== undefined && { scoreThreshold }),
  };
}

const EQUAL_WEIGHTS = { image: 1, product: 1, text: 1, words: 1 };

/** A text is searched for by its words with every model, and by its meaning where the model knows words. */
async function toParts(query: Query, vectors: QueryVectors, signal: AbortSignal): Promise<QueryPart[]> {
  const { image, product_id: productId, text, crop, weights = EQUAL_WEIGHTS } = query;
  const parts: Promise<QueryPart>[] = [];
  const add = (by: 'image' | 'text', weight: number, vector: () => Promise<Float32Array>) => {
    if (weight > 0) parts.push(vector().then((found) => ({ by, vector: found, weight })));
  };
  if (image !== undefined) add('image', weights.image, () => vectors.ofImage(image, { signal, crop }));
  if (productId !== undefined) add('image', weights.product, () => vectors.ofProduct(productId));
  if (text !== undefined) {
    if (weights.words > 0) parts.push(Promise.resolve({ by: 'words', text, weight: weights.words }));
    // Without a text encoder, only a search for nothing but a meaning is refused.
    if (vectors.knowsText() || parts.length === 0) add('text', weights.text, () => vectors.ofText(text));
  }
  if (parts.length === 0) {
    throw new VitrineError('invalid_request', 'Every part of the query has the weight 0.');
  }
  return Promise.all(parts);
}
