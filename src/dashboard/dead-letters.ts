import { useEffect, useState } from 'preact/hooks';
import { ask } from './lib/api.ts';
import { confirm } from './lib/confirm.ts';
import { stats } from './lib/events.ts';
import { toCount, toNumber, toTime } from './lib/format.ts';
import { html } from './lib/html.ts';
import { useLoad } from './lib/load.ts';
import { attempt, notify } from './lib/notices.ts';
import { Empty, Failure, Loading, Picture } from './lib/parts.ts';
import { toHref } from './lib/router.ts';
import { can } from './lib/session.ts';
import type { Job, JobPage } from './lib/wire.ts';

/** Jobs that are read to find the codes; the counts of each code are those of the server. */
const LISTED = 1_000;
const SHOWN = 24;

type Selection = { readonly ids: readonly string[] } | { readonly code: string } | { readonly all: true };

interface Group {
  readonly code: string;
  readonly jobs: readonly Job[];
  readonly total: number;
}

/** What failed for good, by its cause: put back what can work now, delete what can't. */
export function DeadLettersView() {
  const { data, error, reload } = useLoad('dead', readGroups);
  const [selected, setSelected] = useState<ReadonlySet<string>>(new Set());
  const dead = stats.value?.dead;
  useEffect(() => {
    if (data !== undefined && dead !== undefined && dead !== data.total) reload();
  }, [dead]);

  async function act(action: 'redrive' | 'delete', selection: Selection, count: number): Promise<void> {
    const jobs = toCount(count, 'dead letter');
    const isSure = await confirm(
      action === 'redrive'
        ? {
            title: `Redrive ${jobs}?`,
            text: 'They wait again, with fresh attempts. What was not fixed fails again.',
            action: `Redrive ${toNumber(count)}`,
          }
        : {
            title: `Delete ${jobs}?`,
            text: "Their pictures are not indexed, and the jobs are gone. This can't be undone.",
            action: `Delete ${toNumber(count)}`,
            isDangerous: true,
          },
    );
    if (!isSure) return;
    await attempt(async () => {
      if (action === 'redrive') {
        const { redriven } = await ask<{ redriven: number }>('/queue/dead/redrive', {
          method: 'POST',
          body: selection,
        });
        notify(`${toCount(redriven, 'job')} wait again.`);
      } else {
        const { removed } = await ask<{ removed: number }>('/queue/dead', {
          method: 'DELETE',
          body: selection,
        });
        notify(`${toCount(removed, 'dead letter')} deleted.`);
      }
    });
    setSelected(new Set());
    reload();
  }

  if (data === undefined) {
    return html`<h1>Dead letters</h1>${error !== undefined ? html`<${Failure} error=${error} retry=${reload} />` : html`<${Loading} what="the dead letters" />`}`;
  }
  if (data.total === 0) {
    return html`<h1>Dead letters</h1><${Empty} title="Nothing failed for good"><p>Jobs come here when their last attempt has failed.</p><//>`;
  }
  const chosen = [...selected];
  return html`
    <div class="row row-between">
      <h1>Dead letters</h1>
      <div class="row">
        <a class="button" href="/queue/dead/export" download="dead-letters.ndjson">Export</a>
        ${
          can('admin') &&
          html`<button onClick=${() => void act('redrive', { all: true }, data.total)}>Redrive all ${toNumber(data.total)}</button>
          <button class="quiet bad" onClick=${() => void act('delete', { all: true }, data.total)}>Delete all ${toNumber(data.total)}</button>`
        }
      </div>
    </div>
    ${error !== undefined && html`<${Failure} error=${error} retry=${reload} />`}
    ${
      chosen.length > 0 &&
      html`<div class="selection" role="region" aria-label="Selected dead letters">
        <strong role="status">${toNumber(chosen.length)} selected</strong>
        <button class="primary" onClick=${() => void act('redrive', { ids: chosen }, chosen.length)}>Redrive ${toNumber(chosen.length)}</button>
        <button class="danger" onClick=${() => void act('delete', { ids: chosen }, chosen.length)}>Delete ${toNumber(chosen.length)}</button>
        <button class="quiet" onClick=${() => setSelected(new Set())}>Select none</button>
      </div>`
    }
    ${data.groups.map((group) => html`<${CodeGroup} key=${group.code} group=${group} selected=${selected} onSelect=${setSelected} act=${act} />`)}
  `;
}

function CodeGroup({
  group: { code, jobs, total },
  selected,
  onSelect,
  act,
}: {
  group: Group;
  selected: ReadonlySet<string>;
  onSelect: (ids: ReadonlySet<string>) => void;
  act: (action: 'redrive' | 'delete', selection: Selection, count: number) => void;
}) {
  const [isAll, setAll] = useState(false);
  const shown = isAll ? jobs : jobs.slice(0, SHOWN);
  const toggle = (id: string) => {
    const ids = new Set(selected);
    if (!ids.delete(id)) ids.add(id);
    onSelect(ids);
  };
  return html`<section class="card" aria-labelledby=${`code-${code}`}>
    <div class="row row-between">
      <h2 id=${`code-${code}`}>${toCount(total, 'job')}: <a href=${`/errors#${code}`}>${code}</a></h2>
      ${
        can('admin') &&
        html`<div class="row">
          <button onClick=${() => act('redrive', { code }, total)}>Redrive these ${toNumber(total)}</button>
          <button class="quiet bad" onClick=${() => act('delete', { code }, total)}>Delete these ${toNumber(total)}</button>
        </div>`
      }
    </div>
    <p>${jobs[0]?.last_error?.suggestion}</p>
    <ul class="letters">${shown.map(
      (job) => html`<li key=${job.job_id}>
        ${can('admin') && html`<input type="checkbox" checked=${selected.has(job.job_id)} aria-label=${`Select ${job.product_id} / ${job.image_id}`} onChange=${() => toggle(job.job_id)} />`}
        <${Picture} productId=${job.product_id} imageId=${job.image_id} name="" />
        <span class="letter">
          <a href=${toHref(['jobs', job.job_id])}>${job.product_id} / ${job.image_id}</a>
          <span>${job.last_error?.message}</span>
          <small>${job.ended_at === null ? '' : toTime(job.ended_at)}, after ${toCount(job.attempts, 'attempt')}</small>
        </span>
      </li>`,
    )}</ul>
    ${jobs.length > shown.length && html`<button class="more" onClick=${() => setAll(true)}>Show all ${toNumber(jobs.length)}</button>`}
  </section>`;
}

async function readGroups(signal: AbortSignal): Promise<{ groups: readonly Group[]; total: number }> {
  const { jobs, total } = await ask<JobPage>(`/queue/dead?limit=${LISTED}`, { signal });
  const byCode = [...Map.groupBy(jobs, (job) => job.last_error?.code ?? 'unknown')];
  const isComplete = total <= LISTED;
  const groups = await Promise.all(
    byCode.map(async ([code, own]) => ({
      code,
      jobs: own,
      total: isComplete
        ? own.length
        : (await ask<JobPage>(`/queue/dead?limit=1&code=${code}`, { signal })).total,
    })),
  );
  return { groups: groups.toSorted((a, b) => b.total - a.total), total };
}
