import { useEffect, useState } from 'preact/hooks';
import { ask, toPath } from '../lib/api.ts';
import { confirm } from '../lib/confirm.ts';
import { ended } from '../lib/events.ts';
import { toCount, toTime } from '../lib/format.ts';
import { html } from '../lib/html.ts';
import { useLoad } from '../lib/load.ts';
import { attempt, notify } from '../lib/notices.ts';
import { Badge, Failure, Loading, Picture, type Tone } from '../lib/parts.ts';
import { navigate, toHref } from '../lib/router.ts';
import { can } from '../lib/session.ts';
import type { DeletedProduct, Payload, Product } from '../lib/wire.ts';
import { toLikeHref } from '../search/state.ts';

const STATE_TONES: Readonly<Record<string, Tone>> = { indexed: 'good', pending: 'busy', failed: 'bad' };

/** One product: its pictures, its data, its jobs. */
export function ProductView({ productId }: { productId: string }) {
  const path = toPath('products', productId);
  const { data, error, reload } = useLoad(path, (signal) => ask<Product>(path, { signal }));
  const [isEditing, setEditing] = useState(false);
  // A job of this product ended: what is shown may have changed.
  const lastOwn = ended.value.find((job) => job.product_id === productId)?.ended_at;
  useEffect(() => {
    if (lastOwn !== undefined) reload();
  }, [lastOwn]);

  if (error !== undefined && data === undefined) {
    return html`<h1>${productId}</h1><${Failure} error=${error} retry=${reload} />`;
  }
  if (data === undefined) return html`<h1>${productId}</h1><${Loading} what="the product" />`;
  const payload = data.images.find((image) => image.payload !== null)?.payload ?? null;

  async function remove(): Promise<void> {
    const images = toCount(data?.images.length ?? 0, 'image');
    const isSure = await confirm({
      title: `Delete ${payload?.name ?? productId}?`,
      text: `The product and its ${images} will no longer be found, and its jobs are cancelled. This can't be undone.`,
      action: `Delete ${images}`,
      isDangerous: true,
    });
    if (!isSure) return;
    const isDone = await attempt(async () => {
      const { deleted_images: count } = await ask<DeletedProduct>(path, { method: 'DELETE' });
      notify(`Deleted ${productId} with ${toCount(count, 'image')}.`);
    });
    if (isDone) navigate(toHref(['catalog']));
  }

  return html`
    <nav aria-label="Path"><a href=${toHref(['catalog'])}>Catalog</a></nav>
    <div class="row row-between">
      <h1>${payload?.name ?? productId}</h1>
      <div class="row">
        <a class="button" href=${toLikeHref(productId)}>More like this</a>
        ${can('admin') && payload !== null && html`<button onClick=${() => setEditing(!isEditing)} aria-expanded=${isEditing}>Edit</button>`}
        ${can('admin') && html`<button class="quiet bad" onClick=${() => void remove()}>Delete</button>`}
      </div>
    </div>
    ${error !== undefined && html`<${Failure} error=${error} retry=${reload} />`}
    <div class="product">
      <${Images} product=${data} onChange=${reload} />
      <div class="product-data">
        ${
          isEditing && payload !== null
            ? html`<${EditForm} path=${path} payload=${payload} onDone=${(isSaved: boolean) => {
                setEditing(false);
                if (isSaved) reload();
              }} />`
            : html`<${Data} productId=${productId} payload=${payload} />`
        }
        <${Jobs} jobs=${data.jobs} />
      </div>
    </div>
  `;
}

function Images({ product, onChange }: { product: Product; onChange: () => void }) {
  const { product_id: id, images } = product;
  async function remove(imageId: string): Promise<void> {
    const isSure = await confirm({
      title: `Delete the image ${imageId}?`,
      text: `1 of ${toCount(images.length, 'image')} of ${id} will no longer be found. This can't be undone.`,
      action: 'Delete 1 image',
      isDangerous: true,
    });
    if (!isSure) return;
    const path = toPath('products', id, 'images', imageId);
    if (await attempt(() => ask(path, { method: 'DELETE' }))) {
      notify(`Deleted the image ${imageId}.`);
      onChange();
    }
  }
  return html`<ul class="images">${images.map(
    ({ image_id: imageId, state, image_ref: ref }) => html`<li key=${imageId}>
      <${Picture} productId=${id} imageId=${imageId} name=${`Image ${imageId}`} />
      <div class="row row-between">
        <span>${imageId} <${Badge} tone=${STATE_TONES[state] ?? 'quiet'}>${state}<//></span>
        ${can('admin') && images.length > 1 && html`<button class="quiet bad" onClick=${() => void remove(imageId)}>Delete<span class="unseen"> image ${imageId}</span></button>`}
      </div>
      <small class="ref">${ref ?? 'sent with its job'}</small>
    </li>`,
  )}</ul>`;
}

function Data({ productId, payload }: { productId: string; payload: Payload | null }) {
  if (payload === null) return html`<p class="muted">Nothing of it is indexed yet.</p>`;
  const { metadata, tags, version, indexed_at: indexedAt, ...fields } = payload;
  const rows: readonly (readonly [string, unknown])[] = [
    ['product_id', productId],
    ...Object.entries(fields),
    ['tags', tags?.join(', ')],
    ...Object.entries(metadata ?? {}).map(([key, value]) => [`metadata.${key}`, toText(value)] as const),
    ['version', version],
    ['indexed', toTime(indexedAt)],
  ];
  return html`<section aria-labelledby="data"><h2 id="data">Data</h2>
    <dl class="data">${rows
      .filter(([, value]) => value !== undefined && value !== '')
      .map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${String(value)}</dd></div>`)}</dl>
  </section>`;
}

const toText = (value: unknown): string => (typeof value === 'string' ? value : JSON.stringify(value));

const TEXTS = ['name', 'description', 'category', 'brand', 'currency'] as const;

/** Sends only what was changed: what others change meanwhile stays. */
function EditForm({
  path,
  payload,
  onDone,
}: {
  path: string;
  payload: Payload;
  onDone: (isSaved: boolean) => void;
}) {
  const [isBusy, setBusy] = useState(false);
  const before: Readonly<Record<string, string>> = {
    ...Object.fromEntries(TEXTS.map((name) => [name, payload[name] ?? ''])),
    price: payload.price?.toString() ?? '',
    tags: payload.tags?.join(', ') ?? '',
  };

  async function save(event: SubmitEvent): Promise<void> {
    event.preventDefault();
    const form = new FormData(event.currentTarget as HTMLFormElement);
    const changed = Object.keys(before).filter((name) => String(form.get(name)).trim() !== before[name]);
    const patch = Object.fromEntries(
      changed.map((name) => [name, toValue(name, String(form.get(name)).trim())]),
    );
    if (changed.length === 0) return onDone(false);
    setBusy(true);
    const isDone = await attempt(() => ask(path, { method: 'PATCH', body: patch }));
    setBusy(false);
    if (!isDone) return;
    const undo = Object.fromEntries(changed.map((name) => [name, toValue(name, before[name] ?? '')]));
    notify(`Saved ${toCount(changed.length, 'field')}.`, {
      undo: () => void attempt(() => ask(path, { method: 'PATCH', body: undo })).then(() => onDone(true)),
    });
    onDone(true);
  }

  return html`<section aria-labelledby="edit"><h2 id="edit">Edit the data</h2>
    <form onSubmit=${save}>
      ${TEXTS.map(
        (name) => html`<label for=${`edit-${name}`}>${name}</label>
          ${name === 'description' ? html`<textarea id=${`edit-${name}`} name=${name} rows="3">${before[name]}</textarea>` : html`<input id=${`edit-${name}`} name=${name} value=${before[name]} />`}`,
      )}
      <label for="edit-price">price</label><input id="edit-price" name="price" type="number" min="0" step="any" value=${before['price']} />
      <label for="edit-tags">tags, separated by commas</label><input id="edit-tags" name="tags" value=${before['tags']} />
      <div class="row row-end">
        <button type="button" onClick=${() => onDone(false)}>Cancel</button>
        <button class="primary" disabled=${isBusy}>Save</button>
      </div>
    </form>
  </section>`;
}

/** An empty field removes the value. */
function toValue(name: string, text: string): unknown {
  if (text === '') return null;
  if (name === 'price') return Number(text);
  return name === 'tags'
    ? text
        .split(',')
        .map((tag) => tag.trim())
        .filter((tag) => tag !== '')
    : text;
}

const JOB_TONES: Readonly<Record<string, Tone>> = { processing: 'busy', failed: 'bad', completed: 'good' };

function Jobs({ jobs }: { jobs: Product['jobs'] }) {
  if (jobs === null || jobs.length === 0) return null;
  return html`<section aria-labelledby="jobs"><h2 id="jobs">Jobs</h2>
    <ul class="lines">${jobs.map(
      (job) => html`<li key=${job.job_id}>
        <${Badge} tone=${JOB_TONES[job.status] ?? 'quiet'}>${job.status}<//>
        <a href=${toHref(['jobs', job.job_id])}>${job.image_id}</a>
        <small>${job.last_error?.message ?? ''}</small>
        <time datetime=${job.enqueued_at}>${toTime(job.enqueued_at)}</time>
      </li>`,
    )}</ul>
  </section>`;
}
