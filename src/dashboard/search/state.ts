import { type Route, toHref } from '../lib/router.ts';

/** A box of the query picture, in fractions of its width and height. */
export interface Crop {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** What is searched for. The address of the page holds all of it. */
export interface Search {
  readonly text: string;
  /** "More like this". */
  readonly product: string | undefined;
  /** The id of a picture in this browser. */
  readonly picture: string | undefined;
  readonly crop: Crop | undefined;
  readonly categories: readonly string[];
  readonly brands: readonly string[];
  readonly tags: readonly string[];
  /** The number of one of PRICE_RANGES. */
  readonly price: number | undefined;
}

export const PRICE_RANGES: readonly { readonly gte?: number; readonly lt?: number }[] = [
  { lt: 10 },
  { gte: 10, lt: 25 },
  { gte: 25, lt: 50 },
  { gte: 50, lt: 100 },
  { gte: 100, lt: 250 },
  { gte: 250 },
];

export function parseSearch({ query }: Route): Search {
  const price = Number(query.get('price') ?? Number.NaN);
  return {
    text: query.get('q') ?? '',
    product: query.get('like') ?? undefined,
    picture: query.get('picture') ?? undefined,
    crop: parseCrop(query.get('crop')),
    categories: query.getAll('category'),
    brands: query.getAll('brand'),
    tags: query.getAll('tag'),
    price: PRICE_RANGES[price] === undefined ? undefined : price,
  };
}

function parseCrop(text: string | null): Crop | undefined {
  const [x, y, width, height] = (text ?? '').split(',').map(Number);
  const isCrop = [x, y, width, height].every((part) => part !== undefined && part >= 0 && part <= 1);
  return isCrop ? ({ x, y, width, height } as Crop) : undefined;
}

export function toSearchHref({
  text,
  product,
  picture,
  crop,
  categories,
  brands,
  tags,
  price,
}: Search): string {
  return toHref(['search'], {
    q: text,
    like: product,
    picture,
    crop: crop && [crop.x, crop.y, crop.width, crop.height].map((part) => part.toFixed(3)).join(','),
    category: categories,
    brand: brands,
    tag: tags,
    price: price?.toString(),
  });
}

export const toLikeHref = (productId: string): string => toHref(['search'], { like: productId });

export const isQuery = ({ text, product, picture }: Search): boolean =>
  text.trim() !== '' || product !== undefined || picture !== undefined;

/** The filter as the API takes it; undefined without one. */
export function toFilter({ categories, brands, tags, price }: Search): object | undefined {
  const filter = {
    ...(categories.length > 0 && { category: categories }),
    ...(brands.length > 0 && { brand: brands }),
    ...(tags.length > 0 && { tags: { all: tags } }),
    ...(price !== undefined && { price: PRICE_RANGES[price] }),
  };
  return Object.keys(filter).length > 0 ? filter : undefined;
}
