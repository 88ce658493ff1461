import type { ComponentChildren } from 'preact';
import { useState } from 'preact/hooks';
import { type ApiError, toThumbnail } from './api.ts';
import { html } from './html.ts';

/** What a view shows where it has nothing to show. */
export function Empty({ title, children }: { title: string; children?: ComponentChildren }) {
  return html`<section class="empty"><h2>${title}</h2>${children}</section>`;
}

/** A failure: what went wrong, what to do, and another try. */
export function Failure({ error, retry }: { error: ApiError; retry?: () => void }) {
  return html`<section class="failure" role="alert">
    <h2>${error.message}</h2>
    <p>${error.suggestion}</p>
    ${error.faults.length > 0 && html`<ul>${error.faults.map((fault) => html`<li>${fault.path} ${fault.message}</li>`)}</ul>`}
    <p><small><a href=${`/errors#${error.code}`}>${error.code}</a></small></p>
    ${retry && html`<button onClick=${retry}>Try again</button>`}
  </section>`;
}

export function Loading({ what }: { what: string }) {
  return html`<p class="loading" role="status"><span class="spinner" aria-hidden="true"></span>Loading ${what}…</p>`;
}

/** A product picture in a frame that keeps its place, also while it loads and when there is none. */
export function Picture({ productId, imageId, name }: { productId: string; imageId: string; name: string }) {
  const [isMissing, setMissing] = useState(false);
  return html`<span class=${isMissing ? 'picture picture-missing' : 'picture'}>
    ${
      isMissing
        ? html`<span>No picture</span>`
        : html`<img src=${toThumbnail(productId, imageId)} alt=${name} width="320" height="320"
            loading="lazy" decoding="async" onError=${() => setMissing(true)} />`
    }
  </span>`;
}

export type Tone = 'good' | 'bad' | 'warn' | 'busy' | 'quiet';

export function Badge({ tone, children }: { tone: Tone; children?: ComponentChildren }) {
  return html`<span class=${`badge badge-${tone}`}>${children}</span>`;
}

/** A number with its name. */
export function Figure({
  name,
  value,
  note,
}: {
  name: string;
  value: ComponentChildren;
  note?: ComponentChildren;
}) {
  return html`<div class="figure"><dt>${name}</dt><dd>${value}${note !== undefined && html`<small>${note}</small>`}</dd></div>`;
}
