import { useState } from 'preact/hooks';
import { ImportView } from './catalog/import.ts';
import { ProductView } from './catalog/product.ts';
import { ask } from './lib/api.ts';
import { toCount, toPrice } from './lib/format.ts';
import { html } from './lib/html.ts';
import { useLoad } from './lib/load.ts';
import { Empty, Failure, Loading, Picture } from './lib/parts.ts';
import { route, toHref } from './lib/router.ts';
import { can } from './lib/session.ts';
import type { ProductPage } from './lib/wire.ts';

/** The products, one product, or the import: by the address. */
export function CatalogView() {
  const [, name] = route.value.path;
  if (name === 'import') return html`<${ImportView} />`;
  if (name !== undefined) return html`<${ProductView} key=${name} productId=${name} />`;
  return html`<${Products} />`;
}

const PAGE = 60;

function Products() {
  // The pages until now; each begins where the one before ended.
  const [cursors, setCursors] = useState<readonly (string | undefined)[]>([undefined]);
  const { data, error, reload } = useLoad(`products-${cursors.length}`, async (signal) =>
    Promise.all(cursors.map((cursor) => readPage(cursor, signal))),
  );
  const products = data?.flatMap((page) => page.products) ?? [];
  const next = data?.at(-1)?.next_cursor ?? null;
  return html`
    <div class="row row-between">
      <h1>Catalog</h1>
      ${can('enqueue') && html`<a class="button primary" href=${toHref(['catalog', 'import'])}>Import</a>`}
    </div>
    ${error !== undefined && html`<${Failure} error=${error} retry=${reload} />`}
    ${data === undefined && error === undefined && html`<${Loading} what="the products" />`}
    ${data !== undefined && products.length === 0 && html`<${Empty} title="No product is indexed yet"><p>Import a file or pictures, or load the samples from the <a href=${toHref(['search'])}>search</a>.</p><//>`}
    <ul class="grid">${products.map(({ product_id: id, images }) => {
      const shown = images.find(({ payload }) => payload !== null) ?? images[0];
      const payload = shown?.payload;
      return html`<li class="hit" key=${id}>
        <a class="hit-link" href=${toHref(['catalog', id])}>
          <${Picture} productId=${id} imageId=${shown?.image_id ?? 'main'} name="" />
          <span class="hit-name">${payload?.name ?? id}</span>
        </a>
        <span class="hit-price">${toPrice(payload?.price, payload?.currency)}</span>
        <small>${id}${images.length > 1 ? `, ${toCount(images.length, 'image')}` : ''}</small>
      </li>`;
    })}</ul>
    ${next !== null && html`<button class="more" onClick=${() => setCursors([...cursors, next])}>Show more</button>`}
  `;
}

function readPage(cursor: string | undefined, signal: AbortSignal): Promise<ProductPage> {
  const query = new URLSearchParams({ limit: String(PAGE), ...(cursor !== undefined && { cursor }) });
  return ask<ProductPage>(`/products?${query}`, { signal });
}
