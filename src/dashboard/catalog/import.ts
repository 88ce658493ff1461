import { useEffect, useState } from 'preact/hooks';
import { type ApiError, ask } from '../lib/api.ts';
import { ended } from '../lib/events.ts';
import { toCount, toNumber } from '../lib/format.ts';
import { html } from '../lib/html.ts';
import { toApiError } from '../lib/load.ts';
import { Badge, Failure, Loading, type Tone } from '../lib/parts.ts';
import { toHref } from '../lib/router.ts';
import type { Job } from '../lib/wire.ts';
import { enqueue, type Outcome, type Plan, type Planned, planImport } from './jobs-of-import.ts';

/** From dropped files to indexed pictures: choose, look at what will happen, start, watch. */
export function ImportView() {
  const [plan, setPlan] = useState<Plan | null>(null);
  const [isReading, setReading] = useState(false);
  const [isStarted, setStarted] = useState(false);
  const [error, setError] = useState<ApiError | null>(null);

  async function take(files: readonly File[]): Promise<void> {
    if (files.length === 0) return;
    setReading(true);
    setError(null);
    try {
      setPlan(await planImport(files));
    } catch (reason) {
      setError(toApiError(reason));
    }
    setReading(false);
  }

  useEffect(() => {
    if (isStarted) return;
    const onDrop = (event: DragEvent) => void take([...(event.dataTransfer?.files ?? [])]);
    addEventListener('drop', onDrop);
    return () => removeEventListener('drop', onDrop);
  }, [isStarted]);

  return html`
    <nav aria-label="Path"><a href=${toHref(['catalog'])}>Catalog</a></nav>
    <h1>Import</h1>
    ${error !== null && html`<${Failure} error=${error} />`}
    ${isReading && html`<${Loading} what="the files" />`}
    ${!isReading && plan === null && html`<${Choose} onFiles=${take} />`}
    ${
      !isReading &&
      plan !== null &&
      (isStarted
        ? html`<${Progress} plan=${plan} />`
        : html`<${Preview} plan=${plan} onStart=${() => setStarted(true)} onCancel=${() => setPlan(null)} />`)
    }
  `;
}

function Choose({ onFiles }: { onFiles: (files: readonly File[]) => void }) {
  const onChange = (event: Event) => onFiles([...((event.currentTarget as HTMLInputElement).files ?? [])]);
  return html`<section class="drop">
    <h2>Drop a catalog or pictures here</h2>
    <p>A CSV or JSONL file with the addresses of its pictures; the same with the pictures themselves; or pictures alone,
      whose names become the products'.</p>
    <span class="file">
      <input id="files" class="unseen" type="file" multiple accept=".csv,.tsv,.txt,.jsonl,.ndjson,image/*" onChange=${onChange} />
      <label class="button primary" for="files">Choose files</label>
    </span>
    <p class="muted">Nothing is indexed before you have seen what will happen.</p>
  </section>`;
}

const LISTED = 50;

function Preview({ plan, onStart, onCancel }: { plan: Plan; onStart: () => void; onCancel: () => void }) {
  const { pictures, faults, totalFaults, isCut } = plan;
  const products = new Set(pictures.map(({ productId }) => productId)).size;
  const files = pictures.filter(({ file }) => file !== undefined).length;
  return html`<section aria-labelledby="plan">
    <h2 id="plan">${toCount(pictures.length, 'picture')} of ${toCount(products, 'product')}</h2>
    <p>${toNumber(files)} from the files, ${toNumber(pictures.length - files)} by their addresses. Products that exist already
      are updated.</p>
    ${isCut && html`<p class="alert">The file has more than 10,000 entries; only those are read here. <code>vitrine index</code> takes files of any size.</p>`}
    <div class="row">
      <button onClick=${onCancel}>Other files</button>
      <button class="primary" disabled=${pictures.length === 0} onClick=${onStart}>Index ${toCount(pictures.length, 'picture')}</button>
    </div>
    ${
      totalFaults > 0 &&
      html`<h3>${toCount(totalFaults, 'entry', 'entries')} can't be taken</h3>
        <ul class="lines">${faults.slice(0, LISTED).map(({ where, detail }) => html`<li><strong>${where}</strong> <span>${detail}</span></li>`)}</ul>`
    }
    ${
      pictures.length > 0 &&
      html`<div class="table" tabindex="0" role="region" aria-label="The first pictures"><table>
        <thead><tr><th>From</th><th>Product</th><th>Image</th><th>Name</th><th>Category</th><th class="end">Price</th></tr></thead>
        <tbody>${pictures.slice(0, LISTED).map(
          ({ where, productId, imageId, name, job }) => html`<tr key=${where}>
            <td>${where}</td><td>${productId}</td><td>${imageId}</td><td>${name}</td>
            <td>${job['category'] ?? ''}</td><td class="end">${job['price'] ?? ''} ${job['currency'] ?? ''}</td></tr>`,
        )}</tbody></table></div>
        ${pictures.length > LISTED && html`<p class="muted">And ${toNumber(pictures.length - LISTED)} more.</p>`}`
    }
  </section>`;
}

interface Followed extends Outcome {
  readonly status?: Job['status'];
}

const CHECK_MS = 3_000;
/** How many jobs are asked for one by one, when their end was not heard of. */
const CHECKED = 20;
const TILES = 300;

function Progress({ plan: { pictures } }: { plan: Plan }) {
  const [followed, setFollowed] = useState<ReadonlyMap<Planned, Followed>>(new Map());
  const [error, setError] = useState<ApiError | null>(null);
  const set = (picture: Planned, change: Followed) =>
    setFollowed((last) => new Map(last).set(picture, { ...last.get(picture), ...change }));
  const take = (job: Job) => {
    const picture = pictures.find(
      (each) => each.productId === job.product_id && each.imageId === job.image_id,
    );
    if (picture !== undefined && isEnd(job.status)) {
      set(picture, {
        status: job.status,
        ...(job.last_error !== null && { detail: job.last_error.message }),
      });
    }
  };

  useEffect(() => {
    enqueue(pictures, set).catch((reason: unknown) => setError(toApiError(reason)));
  }, []);
  // What ended is heard of as it ends, and asked for now and then: the stream may have had a gap.
  const newest = ended.value;
  useEffect(() => {
    const ids = new Set([...followed.values()].map(({ jobId }) => jobId));
    for (const job of newest) if (ids.has(job.job_id)) take(job);
  }, [newest, followed.size]);
  const open = [...followed].filter(([, { jobId, status }]) => jobId !== undefined && status === undefined);
  useEffect(() => {
    const timer = setInterval(() => {
      for (const [, { jobId }] of open.slice(0, CHECKED)) {
        ask<Job>(`/queue/jobs/${jobId}`).then(take, () => undefined);
      }
    }, CHECK_MS);
    return () => clearInterval(timer);
  }, [open.length]);

  const states = pictures.map((picture) => toState(followed.get(picture)));
  const countOf = (name: string) => states.filter((state) => state.name === name).length;
  const finished = states.filter(({ isEnd: hasEnded }) => hasEnded).length;
  const failed = countOf('failed') + countOf('refused');
  return html`<section aria-labelledby="progress">
    <h2 id="progress"><span role="status">${finished === pictures.length ? `Done: ${toNumber(countOf('indexed'))} indexed, ${toNumber(failed)} failed` : `${toNumber(finished)} of ${toCount(pictures.length, 'picture')}`}</span></h2>
    <progress max=${pictures.length} value=${finished} aria-labelledby="progress"></progress>
    ${error !== null && html`<${Failure} error=${error} />`}
    ${finished === pictures.length && html`<div class="row"><a class="button primary" href=${toHref(['search'])}>Search them</a><a class="button" href=${toHref(['catalog'])}>Open the catalog</a></div>`}
    <ul class="tiles">${pictures.slice(0, TILES).map((picture, index) => {
      const state = states[index];
      return html`<li key=${picture.where}>
        <strong>${picture.name}</strong>
        <span><${Badge} tone=${state?.tone}>${state?.name}<//></span>
        ${state?.detail !== undefined && html`<small>${state.detail}</small>`}
      </li>`;
    })}</ul>
    ${pictures.length > TILES && html`<p class="muted">And ${toNumber(pictures.length - TILES)} more.</p>`}
  </section>`;
}

const isEnd = (status: Job['status']): boolean => ['completed', 'failed', 'cancelled'].includes(status);

function toState(followed: Followed | undefined): {
  name: string;
  tone: Tone;
  isEnd: boolean;
  detail?: string | undefined;
} {
  if (followed === undefined) return { name: 'sending', tone: 'quiet', isEnd: false };
  const { jobId, status, detail } = followed;
  if (jobId === undefined) return { name: 'refused', tone: 'bad', isEnd: true, detail };
  if (status === 'completed') return { name: 'indexed', tone: 'good', isEnd: true };
  if (status === 'failed') return { name: 'failed', tone: 'bad', isEnd: true, detail };
  if (status === 'cancelled') return { name: 'cancelled', tone: 'quiet', isEnd: true };
  return { name: 'waiting', tone: 'busy', isEnd: false };
}
