import { ApiError, ask } from '../lib/api.ts';
import { readPicture } from '../lib/pictures.ts';
import type { Hit, ProductPage, SearchReply } from '../lib/wire.ts';
import { isQuery, PRICE_RANGES, type Search, toFilter, toSearchHref } from './state.ts';

export interface Found {
  readonly hits: readonly Pick<Hit, 'product_id' | 'image_id' | 'payload'>[];
  readonly facets: NonNullable<SearchReply['facets']>;
  /** Absent where nothing was searched for: then the hits are simply what there is. */
  readonly matches: readonly Pick<Hit, 'score' | 'matched_by'>[] | undefined;
}

const PICTURE_GONE = new ApiError({
  detail: 'The picture of this search is not in this browser.',
  code: 'picture_gone',
  status: 0,
  suggestion: 'Choose or drop the picture again.',
});

/** How many hits are shown before more are asked for. */
export const PAGE = 60;

/** Names one request. */
export const toSearchKey = (query: Search, limit: number): string => `${toSearchHref(query)} ${limit}`;

/** Searches, or lists the catalog where there is nothing to search for. @throws ApiError */
export async function search(query: Search, limit: number, signal: AbortSignal): Promise<Found> {
  const filter = toFilter(query);
  const facets = { limit: 12, price_ranges: PRICE_RANGES };
  if (!isQuery(query)) {
    const [counted, listed] = await Promise.all([
      ask<SearchReply>('/search', { method: 'POST', body: { limit: 0, facets, filter }, signal }),
      listProducts(filter, limit, signal),
    ]);
    return { hits: listed, facets: counted.facets as Found['facets'], matches: undefined };
  }
  const options = {
    ...(query.text.trim() !== '' && { text: query.text.trim() }),
    ...(query.product !== undefined && { product_id: query.product }),
    ...(filter !== undefined && { filter }),
    facets,
    limit,
  };
  const { picture } = query;
  const body = picture === undefined ? options : await toForm(picture, query, options);
  const reply = await ask<SearchReply>('/search', { method: 'POST', body, signal });
  return { hits: reply.hits, facets: reply.facets as Found['facets'], matches: reply.hits };
}

async function toForm(id: string, { crop }: Search, options: object): Promise<FormData> {
  const picture = await readPicture(id);
  if (picture === undefined) throw PICTURE_GONE;
  const form = new FormData();
  form.append('image', picture);
  for (const [name, value] of Object.entries({ ...options, ...(crop && { crop }) })) {
    form.append(name, typeof value === 'string' ? value : JSON.stringify(value));
  }
  return form;
}

/** The first image of each product. */
async function listProducts(filter: object | undefined, limit: number, signal: AbortSignal) {
  const query = new URLSearchParams({
    limit: String(Math.min(limit, 1_000)),
    ...(filter !== undefined && { filter: JSON.stringify(filter) }),
  });
  const { products } = await ask<ProductPage>(`/products?${query}`, { signal });
  return products.flatMap(({ product_id, images }) => {
    const image = images.find(({ payload }) => payload !== null);
    return image?.payload ? [{ product_id, image_id: image.image_id, payload: image.payload }] : [];
  });
}
