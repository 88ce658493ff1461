import { readFile } from 'node:fs/promises';
import type { z } from '@hono/zod-openapi';
import { VitrineError } from '../errors/vitrine-error.ts';
import { type searchFilter, searchReply } from '../search/schemas.ts';
import { openClient } from './client.ts';
import {
  defineCommand,
  JSON_OPTION,
  parseCount,
  print,
  printJson,
  SERVER_OPTION,
  type Terminal,
  UsageError,
} from './command.ts';
import { toTable } from './table.ts';

export type SearchReply = z.infer<typeof searchReply>;

export const searchCommand = defineCommand({
  name: 'search',
  summary: 'Show the products that look most like an image, a product or words',
  arguments: '[IMAGE]',
  count: [0, 1],
  details: 'IMAGE is a file or an http(s) address. Give one of IMAGE, --product and --text.',
  options: {
    product: { type: 'string', hint: 'ID', help: 'search with an indexed product' },
    text: { type: 'string', hint: 'WORDS', help: 'search with words, where the model has a text encoder' },
    limit: { type: 'string', short: 'n', hint: 'N', default: '10', help: 'how many products; default 10' },
    category: {
      type: 'string',
      multiple: true,
      hint: 'NAME',
      help: 'only of this category; may be repeated',
    },
    brand: { type: 'string', multiple: true, hint: 'NAME', help: 'only of this brand; may be repeated' },
    tag: { type: 'string', multiple: true, hint: 'TAG', help: 'only with this tag; may be repeated' },
    'min-price': { type: 'string', hint: 'PRICE', help: 'only from this price on' },
    'max-price': { type: 'string', hint: 'PRICE', help: 'only up to this price' },
    'every-image': { type: 'boolean', default: false, help: 'list each image, not each product once' },
    json: JSON_OPTION,
    server: SERVER_OPTION,
  },
  examples: [
    'vitrine search photo.jpg',
    'vitrine search https://example.com/lamp.jpg --category lamp --max-price 80',
    'vitrine search --product SKU-00001 -n 5 --json',
  ],
  async run(values, [image], terminal) {
    const given = [image, values.product, values.text].filter((value) => value !== undefined);
    if (given.length !== 1) throw new UsageError('vitrine search needs one of IMAGE, --product and --text.');
    const price = {
      ...(values['min-price'] !== undefined && { gte: parsePrice('min-price', values['min-price']) }),
      ...(values['max-price'] !== undefined && { lte: parsePrice('max-price', values['max-price']) }),
    };
    const filter: z.infer<typeof searchFilter> = {
      ...(values.category && { category: values.category }),
      ...(values.brand && { brand: values.brand }),
      ...(values.tag && { tags: values.tag }),
      ...(Object.keys(price).length > 0 && { price }),
    };
    const body = {
      ...(image !== undefined && (await toImageField(image))),
      ...(values.product !== undefined && { product_id: values.product }),
      ...(values.text !== undefined && { text: values.text }),
      limit: parseCount('limit', values.limit, 1, 1000),
      group_by_product: !values['every-image'],
      ...(Object.keys(filter).length > 0 && { filter }),
    };
    await using client = await openClient({ server: values.server, environment: terminal.environment });
    const reply = await client.call(searchReply, '/search', { method: 'POST', body });
    if (values.json) printJson(terminal, reply);
    else printHits(terminal, reply);
    return 0;
  },
});

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
export async function toImageField(image: string): Promise<{ image_url: string } | { image_base64: string }> {
  if (/^https?:\/\//i.test(image)) return { image_url: image };
  const bytes = await readFile(image).catch((cause: unknown) => {
    throw new VitrineError('invalid_request', `${image} can't be read.`, {
      cause,
      suggestion: 'Check the path and that you may read the file.',
    });
  });
  if (bytes.length === 0)
    throw new VitrineError('invalid_request', `${image} is empty.`, { suggestion: 'Give an image.' });
  return { image_base64: bytes.toString('base64') };
}

function parsePrice(option: string, text: string): number {
  const price = Number(text);
  if (text.trim() !== '' && Number.isFinite(price)) return price;
  throw new UsageError(`--${option} must be a number.`);
}
