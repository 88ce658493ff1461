/**
 * The columns of a feed, and the other names that exports of shop systems use for them. Names are compared in lower
 * case and by their letters and digits only: `Product ID` is `product_id`.
 */
const ALIASES = {
  product_id: ['id', 'sku', 'product', 'item_id', 'article', 'article_number', 'handle'],
  image_id: ['picture_id', 'image_name', 'image_position'],
  image_path: ['path', 'file', 'filename', 'file_name', 'local_image', 'image_file'],
  image_url: ['url_image', 'image_link', 'picture_url', 'photo_url', 'image_src'],
  image: ['picture', 'photo', 'img'],
  name: ['title', 'product_name', 'product_title'],
  description: ['body', 'text', 'long_description'],
  category: ['product_type', 'product_category', 'type', 'google_product_category', 'department'],
  brand: ['vendor', 'manufacturer', 'make'],
  price: ['amount', 'sale_price', 'unit_price', 'variant_price'],
  currency: ['price_currency', 'currency_code'],
  tags: ['labels', 'keywords'],
  metadata: [],
} as const satisfies Record<string, readonly string[]>;

export type Column = keyof typeof ALIASES;

const squeeze = (name: string): string => name.toLowerCase().replaceAll(/[^\p{L}\p{N}]/gu, '');

const BY_NAME = new Map<string, Column>();
for (const [column, aliases] of Object.entries(ALIASES)) {
  for (const name of [column, ...aliases]) BY_NAME.set(squeeze(name), column as Column);
}

/**
 * Which column each header names; null for none, or for one that an earlier header names already. A column's own name
 * wins over its aliases: with both `id` and `product_id`, `id` names none.
 */
export function toColumns(headers: readonly string[]): readonly (Column | null)[] {
  const exact = new Set(headers.filter((header) => Object.hasOwn(ALIASES, header)));
  const taken = new Set<Column>();
  return headers.map((header) => {
    const column = BY_NAME.get(squeeze(header)) ?? null;
    if (column === null || taken.has(column) || (exact.has(column) && header !== column)) return null;
    taken.add(column);
    return column;
  });
}
