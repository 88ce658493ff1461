import { readFile } from 'node:fs/promises';
import type { z } from '@hono/zod-openapi';
import { VitrineError } from '../errors/vitrine-error.ts';
import { type searchFilter, searchReply } from '../search/schemas.ts';
import { connectServer, type ServerOptions } from './client.ts';
import { toTable } from './table.ts';
import { print, printJson, type Terminal } from './terminal.ts';

export type SearchReply = z.infer<typeof searchReply>;

interface SearchOptions extends ServerOptions {
  readonly product?: string | undefined;
  readonly text?: string | undefined;
  readonly limit: number;
  readonly category: readonly string[];
  readonly brand: readonly string[];
  readonly tag: readonly string[];
  readonly minPrice?: number | undefined;
  readonly maxPrice?: number | undefined;
  readonly everyImage?: boolean | undefined;
  readonly json?: boolean | undefined;
}

export async function searchCommand(
  image: string | undefined,
  options: SearchOptions,
  terminal: Terminal,
): Promise<number> {
  const client = await connectServer(options, terminal);
  const body = {
    ...(image !== undefined && (await readImageField(image))),
    ...(options.product !== undefined && { product_id: options.product }),
    ...(options.text !== undefined && { text: options.text }),
    limit: options.limit,
    group_by_product: !options.everyImage,
    filter: toFilter(options),
  };
  const reply = await client.call(searchReply, '/search', { method: 'POST', body });
  if (options.json) printJson(terminal, reply);
  else printHits(terminal, reply);
  return 0;
}

function toFilter({ category, brand, tag, minPrice, maxPrice }: SearchOptions) {
  const price = {
    ...(minPrice !== undefined && { gte: minPrice }),
    ...(maxPrice !== undefined && { lte: maxPrice }),
  };
  const filter: z.input<typeof searchFilter> = {
    ...(category.length > 0 && { category: [...category] }),
    ...(brand.length > 0 && { brand: [...brand] }),
    ...(tag.length > 0 && { tags: [...tag] }),
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
    { title: 'product' },
    { title: 'image' },
    { title: 'name' },
    { title: 'category' },
    { title: 'price', align: 'right' },
  ] as const;
  const rows = hits.map(({ score, product_id, image_id, payload }, index) => [
    `${index + 1}`,
    score.toFixed(3),
    product_id,
    image_id,
    payload.name ?? '',
    payload.category ?? '',
    payload.price === undefined ? '' : `${payload.price.toFixed(2)} ${payload.currency ?? ''}`.trim(),
  ]);
  print(terminal, `${toTable(columns, rows)}\n\nmodel: ${model}`);
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
