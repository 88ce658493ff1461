import { useState } from 'preact/hooks';
import { ask } from '../lib/api.ts';
import { stats } from '../lib/events.ts';
import { toCount } from '../lib/format.ts';
import { html } from '../lib/html.ts';
import { attempt } from '../lib/notices.ts';
import { toHref } from '../lib/router.ts';
import { can } from '../lib/session.ts';

/** Where nothing is indexed: how to fill the catalog, and one button that does it. */
export function EmptyCatalog() {
  const [isBusy, setBusy] = useState(false);
  const pending = stats.value?.total_pending ?? 0;
  const fill = async () => {
    setBusy(true);
    const isDone = await attempt(enqueueSamples);
    if (!isDone) setBusy(false);
  };
  return html`<section class="empty">
    <h1>Your catalog is empty</h1>
    ${
      pending > 0
        ? html`<p role="status"><span class="spinner" aria-hidden="true"></span> ${toCount(pending, 'picture')} on the way. The first ones appear here by themselves.</p>`
        : html`<p>Add products, and search them by picture or by words.</p>
          <div class="row">
            ${can('enqueue') && html`<button class="primary" disabled=${isBusy} onClick=${fill}>${isBusy ? 'Drawing the samples…' : 'Load the sample catalog'}</button>`}
            <a class="button" href=${toHref(['catalog', 'import'])}>Import your own</a>
          </div>
          <p class="muted">Or from a terminal: <code>npm run vitrine -- index catalog.csv</code></p>`
    }
  </section>`;
}

async function enqueueSamples(): Promise<void> {
  const response = await fetch('/samples');
  const body = await response.text();
  await ask('/queue/enqueue/batch', {
    method: 'POST',
    body,
    headers: { 'Content-Type': 'application/x-ndjson' },
  });
}
