import { html } from './lib/html.ts';

export function DeadLettersView() {
  return html`<h1>Dead-letters</h1>`;
}
