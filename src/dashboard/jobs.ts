import { JobView } from './jobs/job.ts';
import { JobList } from './jobs/list.ts';
import { html } from './lib/html.ts';
import { navigate, route, toHref } from './lib/router.ts';

const STATUSES = ['processing', 'queued', 'delayed', 'completed', 'failed', 'cancelled'] as const;
const JOB_ID = /^[\da-f]{8}(?:-[\da-f]{4}){3}-[\da-f]{12}$/i;

/** Jobs by state or product, or one of them: by the address. */
export function JobsView() {
  const { path, query } = route.value;
  const [, id] = path;
  if (id !== undefined) return html`<${JobView} key=${id} id=${id} />`;
  const product = query.get('product');
  const status = STATUSES.find((each) => each === query.get('status')) ?? 'completed';
  const asked = product === null ? `status=${status}` : `product_id=${encodeURIComponent(product)}`;
  return html`
    <h1>Jobs</h1>
    <${Find} product=${product ?? ''} />
    ${
      product === null
        ? html`<nav class="tabs" aria-label="States">${STATUSES.map(
            (each) =>
              html`<a key=${each} href=${toHref(['jobs'], { status: each })} aria-current=${each === status ? 'page' : undefined}>${each}</a>`,
          )}</nav>`
        : html`<h2>Jobs of ${product} that wait, run or failed</h2>`
    }
    <${JobList} key=${asked} query=${asked} />
  `;
}

/** By the id of a job, or of a product. */
function Find({ product }: { product: string }) {
  const onSubmit = (event: SubmitEvent) => {
    event.preventDefault();
    const text = String(new FormData(event.currentTarget as HTMLFormElement).get('find')).trim();
    if (text === '') navigate(toHref(['jobs']));
    else navigate(JOB_ID.test(text) ? toHref(['jobs', text]) : toHref(['jobs'], { product: text }));
  };
  return html`<form role="search" class="find" onSubmit=${onSubmit}>
    <label class="unseen" for="find">Find by job or product</label>
    <input id="find" name="find" type="search" value=${product} placeholder="Id of a job or product" autocomplete="off" />
    <button>Find</button>
  </form>`;
}
