import { readFile } from 'node:fs/promises';
import type { z } from '@hono/zod-openapi';
import { VitrineError } from '../errors/vitrine-error.ts';
import type { searchReply } from '../search/schemas.ts';
import { connectServer, type ServerOptions } from './client.ts';
import { toTable } from './table.ts';
import { print, printJson, type Terminal } from './terminal.ts';

export type SearchReply = z.infer<typeof searchReply>;

/** What narrows down which products are meant. */
export interface FilterOptions {
  readonly category: readonly string[];
  readonly brand: readonly string[];
  readonly tag: readonly string[];
  readonly currency: readonly string[];
  readonly minPrice?: number | undefined;
  readonly maxPrice?: number | undefined;
  /** As the API takes it; the options above win over it. */
  readonly filter?: Readonly<Record<string, unknown>> | undefined;
}

/** A part of an image, in fractions of its width and height. */
export interface Box {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

export interface PriceRange {
  readonly gte?: number;
  readonly lt?: number;
}

interface SearchOptions extends FilterOptions, ServerOptions {
  readonly product?: string | undefined;
  readonly text?: string | undefined;
  /** As `words=2`. */
  readonly weight: readonly string[];
  readonly crop?: Box | undefined;
  readonly limit: number;
  readonly offset?: number | undefined;
  readonly minScore?: number | undefined;
  readonly diversify?: number | undefined;
  readonly exclude: readonly string[];
  readonly everyImage?: boolean | undefined;
  readonly facets?: boolean | undefined;
  readonly priceRange: readonly PriceRange[];
  readonly server?: string | undefined;
  readonly json?: boolean | undefined;
}

export async function searchCommand(
  image: string | undefined,
  options: SearchOptions,
  terminal: Terminal,
): Promise<number> {
  const client = await connectServer(options, terminal);
  const wantsFacets = options.facets || options.priceRange.length > 0;
  // What is undefined is left out of JSON.
  const body = {
    ...(image !== undefined && (await readImageField(image))),
    product_id: options.product,
    text: options.text,
    weights: toWeights(options.weight),
    crop: options.crop,
    limit: options.limit,
    offset: options.offset,
    score_threshold: options.minScore,
    diversify: options.diversify,
    exclude: options.exclude,
    group_by_product: !options.everyImage,
    filter: toFilter(options),
    facets: wantsFacets ? { price_ranges: options.priceRange } : undefined,
  };
  const reply = await client.call<typeof searchReply>('/search', { method: 'POST', body });
  if (options.json) printJson(terminal, reply);
  else {
    if (options.limit > 0) printHits(terminal, reply);
    if (reply.facets !== undefined) printFacets(terminal, reply.facets);
  }
  return 0;
}

/** @throws VitrineError `invalid_request` for what isn't NAME=NUMBER */
function toWeights(weights: readonly string[]): Readonly<Record<string, number>> | undefined {
  if (weights.length === 0) return undefined;
  return Object.fromEntries(
    weights.map((weight) => {
      const [name = '', value = ''] = weight.split('=');
      if (value !== '' && Number.isFinite(Number(value))) return [name, Number(value)];
      throw new VitrineError('invalid_request', `The weight ${weight} is not a name with a number.`, {
        suggestion: 'For example --weight words=2.',
      });
    }),
  );
}

export function toFilter(options: FilterOptions): object | undefined {
  const { category, brand, tag, currency, minPrice, maxPrice } = options;
  const price = {
    ...(minPrice !== undefined && { gte: minPrice }),
    ...(maxPrice !== undefined && { lte: maxPrice }),
  };
  const filter = {
    ...options.filter,
    ...(category.length > 0 && { category }),
    ...(brand.length > 0 && { brand }),
    ...(tag.length > 0 && { tags: tag }),
    ...(currency.length > 0 && { currency }),
    ...(Object.keys(price).length > 0 && { price }),
  };
  return Object.keys(filter).length > 0 ? filter : undefined;
}

export function printHits(terminal: Terminal, { hits, model }: SearchReply): void {
  if (hits.length === 0) {
    print(terminal, 'Nothing was found. Index a catalog with `vitrine index`, or loosen the filters.');
    return;
  }
  const columns = [
    { title: '', align: 'right' },
    { title: 'score', align: 'right' },
    { title: 'by' },
    { title: 'product' },
    { title: 'image' },
    { title: 'name' },
    { title: 'category' },
    { title: 'price', align: 'right' },
  ] as const;
  const rows = hits.map(({ score, matched_by, product_id, image_id, payload }, index) => [
    `${index + 1}`,
    score.toFixed(3),
    matched_by.join(', '),
    product_id,
    image_id,
    payload.name ?? '',
    payload.category ?? '',
    toPrice(payload),
  ]);
  print(terminal, `${toTable(columns, rows)}\n\nmodel: ${model}`);
}

export const toPrice = ({ price, currency = '' }: SearchReply['hits'][number]['payload']): string =>
  price === undefined ? '' : `${price.toFixed(2)} ${currency}`.trim();

function printFacets(
  terminal: Terminal,
  { products, fields, metadata, price_ranges }: NonNullable<SearchReply['facets']>,
): void {
  print(terminal, `\n${products} products pass the filters\n`);
  const named = Object.entries({ ...metadata, ...fields }).map(
    ([name, counts]) => [name, counts.map((count) => [`${count.value}`, count.products] as const)] as const,
  );
  const ranges = price_ranges.map(
    ({ range, products: count }) => [`${range.gte ?? ''}..${range.lt ?? ''}`, count] as const,
  );
  const rows = [...named, ['price', ranges] as const].flatMap(([name, counts]) =>
    counts.map(([value, count], index) => [index === 0 ? name : '', value, `${count}`]),
  );
  print(
    terminal,
    toTable([{ title: 'facet' }, { title: 'value' }, { title: 'products', align: 'right' }], rows),
  );
}

/** A file is sent as its bytes: the server may be elsewhere, and needn't be allowed to read it. */
async function readImageField(image: string): Promise<{ image_url: string } | { image_base64: string }> {
  if (/^https?:\/\//i.test(image)) return { image_url: image };
  const bytes = await readFile(image).catch((cause: unknown) => {
    throw new VitrineError('invalid_request', `${image} can't be read.`, {
      cause,
      suggestion: 'Check the path and that you may read the file.',
    });
  });
  if (bytes.length === 0)
    throw new VitrineError('invalid_request', `${image} is empty.`, {
      suggestion: 'Name a file with an image.',
    });
  return { image_base64: bytes.toString('base64') };
}
