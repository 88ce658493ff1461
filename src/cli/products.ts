import type { z } from '@hono/zod-openapi';
import { VitrineError } from '../errors/vitrine-error.ts';
import type { deletedProduct, duplicatesReply, productPage, productView } from '../products/schemas.ts';
import { connectServer, type ServerOptions } from './client.ts';
import { type FilterOptions, toFilter, toPrice } from './search.ts';
import { toTable } from './table.ts';
import { plain, print, printJson, type Terminal } from './terminal.ts';

interface PrintOptions extends ServerOptions {
  readonly json?: boolean | undefined;
}

const toPath = (productId: string): string => `/products/${encodeURIComponent(productId)}`;

export async function listProducts(
  options: PrintOptions & FilterOptions & { readonly limit: number; readonly cursor?: string | undefined },
  terminal: Terminal,
): Promise<number> {
  const client = await connectServer(options, terminal);
  const filter = toFilter(options);
  const query = new URLSearchParams({
    limit: String(options.limit),
    ...(options.cursor !== undefined && { cursor: options.cursor }),
    ...(filter !== undefined && { filter: JSON.stringify(filter) }),
  });
  const page = await client.call<typeof productPage>(`/products?${query}`);
  if (options.json) {
    printJson(terminal, page);
    return 0;
  }
  if (page.products.length === 0) {
    print(terminal, 'There is no such product.');
    return 0;
  }
  const columns = [
    { title: 'product' },
    { title: 'images', align: 'right' },
    { title: 'name' },
    { title: 'category' },
    { title: 'brand' },
    { title: 'price', align: 'right' },
  ] as const;
  const rows = page.products.map(({ product_id, images }) => {
    const payload = images[0]?.payload;
    const { name = '', category = '', brand = '' } = payload ?? {};
    return [product_id, `${images.length}`, name, category, brand, payload ? toPrice(payload) : ''];
  });
  print(terminal, toTable(columns, rows));
  if (page.next_cursor !== null) print(terminal, `\nThere are more: --cursor ${page.next_cursor}`);
  return 0;
}

export async function showProduct(id: string, options: PrintOptions, terminal: Terminal): Promise<number> {
  const client = await connectServer(options, terminal);
  printProduct(await client.call<typeof productView>(toPath(id)), options, terminal);
  return 0;
}

interface UpdateOptions extends PrintOptions {
  readonly name?: string | undefined;
  readonly description?: string | undefined;
  readonly category?: string | undefined;
  readonly brand?: string | undefined;
  readonly price?: number | undefined;
  readonly currency?: string | undefined;
  readonly tag: readonly string[];
  readonly metadata?: Readonly<Record<string, unknown>> | undefined;
  readonly unset: readonly string[];
}

export async function updateProduct(id: string, options: UpdateOptions, terminal: Terminal): Promise<number> {
  const { name, description, category, brand, price, currency, tag, metadata, unset } = options;
  const client = await connectServer(options, terminal);
  // What is undefined is left out of JSON.
  const body = {
    ...{ name, description, category, brand, price, currency, metadata },
    ...(tag.length > 0 && { tags: tag }),
    ...Object.fromEntries(unset.map((field) => [field, null])),
  };
  printProduct(
    await client.call<typeof productView>(toPath(id), { method: 'PATCH', body }),
    options,
    terminal,
  );
  return 0;
}

function printProduct(
  product: z.infer<typeof productView>,
  { json }: PrintOptions,
  terminal: Terminal,
): void {
  if (json) {
    printJson(terminal, product);
    return;
  }
  const payload = product.images.find((image) => image.payload !== null)?.payload;
  const { name, description, category, brand, tags, metadata } = payload ?? {};
  const fields = {
    ...{ product: product.product_id, name, description, category, brand },
    price: payload ? toPrice(payload) : '',
    tags: tags?.join(', '),
    metadata: metadata && JSON.stringify(metadata),
  };
  for (const [title, value] of Object.entries(fields))
    if (value !== undefined && value !== '') print(terminal, `${title.padEnd(11)}  ${plain(value)}`);
  const images = product.images.map(({ image_id, state, image_ref, payload: data }) => [
    image_id,
    state,
    data?.indexed_at ?? '',
    image_ref ?? '',
  ]);
  const imageColumns = [
    { title: 'image' },
    { title: 'state' },
    { title: 'indexed' },
    { title: 'from', maxWidth: 80 },
  ];
  print(terminal, `\n${toTable(imageColumns, images)}`);
  if (product.jobs === null) {
    print(terminal, '\nThe queue is unreachable, so jobs of the product are not known.');
  } else if (product.jobs.length > 0) {
    const jobs = product.jobs.map(({ job_id, image_id, status, stage, last_error }) => [
      ...[job_id, image_id, status, stage ?? '', last_error?.message ?? ''],
    ]);
    const jobColumns = [
      ...[{ title: 'job' }, { title: 'image' }, { title: 'state' }, { title: 'stage' }],
      { title: 'last error', maxWidth: 80 },
    ];
    print(terminal, `\n${toTable(jobColumns, jobs)}`);
  }
}

export async function deleteProducts(
  ids: readonly string[],
  { image, ...options }: ServerOptions & { readonly image?: string | undefined },
  terminal: Terminal,
): Promise<number> {
  if (image !== undefined && ids.length > 1) {
    throw new VitrineError('invalid_request', '--image is of one product only.', {
      suggestion: 'Name one product, or leave --image out.',
    });
  }
  const client = await connectServer(options, terminal);
  const suffix = image === undefined ? '' : `/images/${encodeURIComponent(image)}`;
  for (const id of ids) {
    const reply = await client.call<typeof deletedProduct>(`${toPath(id)}${suffix}`, { method: 'DELETE' });
    const { deleted_images, cancelled_jobs } = reply;
    print(terminal, `${plain(id)}  ${deleted_images} images deleted, ${cancelled_jobs} jobs cancelled`);
  }
  return 0;
}

export async function showDuplicates(
  options: PrintOptions & { readonly threshold?: number | undefined; readonly limit: number },
  terminal: Terminal,
): Promise<number> {
  const client = await connectServer(options, terminal);
  const query = new URLSearchParams({
    limit: String(options.limit),
    ...(options.threshold !== undefined && { threshold: String(options.threshold) }),
  });
  const reply = await client.call<typeof duplicatesReply>(`/products/duplicates?${query}`);
  if (options.json) {
    printJson(terminal, reply);
    return 0;
  }
  if (reply.groups.length === 0) {
    print(terminal, `None of ${reply.images} images is shared by several products.`);
    return 0;
  }
  const columns = [
    { title: 'group', align: 'right' },
    { title: 'kind' },
    { title: 'product' },
    { title: 'image' },
    { title: 'similarity', align: 'right' },
    { title: 'from', maxWidth: 60 },
  ] as const;
  const rows = reply.groups.flatMap(({ kind, images }, group) =>
    images.map((image, index) => [
      index === 0 ? `${group + 1}` : '',
      index === 0 ? kind : '',
      image.product_id,
      image.image_id,
      image.similarity.toFixed(3),
      image.image_ref ?? '',
    ]),
  );
  print(terminal, toTable(columns, rows));
  print(terminal, `\n${reply.groups.length} of ${reply.total_groups} groups, among ${reply.images} images`);
  return 0;
}
