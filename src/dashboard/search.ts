import { html } from './lib/html.ts';

export function SearchView() {
  return html`<h1>Search</h1>`;
}
