import { html } from './lib/html.ts';

export function JobsView() {
  return html`<h1>Jobs</h1>`;
}
