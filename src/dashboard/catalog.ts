import { html } from './lib/html.ts';

export function CatalogView() {
  return html`<h1>Catalog</h1>`;
}
