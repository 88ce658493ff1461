import { useEffect } from 'preact/hooks';
import { ask, toPath } from '../lib/api.ts';
import { toCount, toDuration, toNumber, toTime } from '../lib/format.ts';
import { html } from '../lib/html.ts';
import { useLoad } from '../lib/load.ts';
import { attempt, notify } from '../lib/notices.ts';
import { Badge, Failure, Loading, Picture, type Tone } from '../lib/parts.ts';
import { toHref } from '../lib/router.ts';
import { can } from '../lib/session.ts';
import type { Job } from '../lib/wire.ts';
import { JOB_TONES } from './list.ts';

const RELOAD_MS = 2_000;
const ENDED: readonly Job['status'][] = ['completed', 'failed', 'cancelled'];

/** One job: what it is, and all that happened to it. Read again until it has ended. */
export function JobView({ id }: { id: string }) {
  const path = toPath('queue', 'jobs', id);
  const { data: job, error, reload } = useLoad(path, (signal) => ask<Job>(path, { signal }));
  const isOpen = job !== undefined && !ENDED.includes(job.status);
  useEffect(() => {
    if (!isOpen) return;
    const timer = setInterval(reload, RELOAD_MS);
    return () => clearInterval(timer);
  }, [isOpen]);

  if (job === undefined) {
    return html`<h1>Job</h1>${error !== undefined ? html`<${Failure} error=${error} retry=${reload} />` : html`<${Loading} what="the job" />`}`;
  }
  const act = async (action: 'cancel' | 'retry', done: string) => {
    if (await attempt(() => ask(`${path}/${action}`, { method: 'POST' }))) notify(done);
    reload();
  };
  return html`
    <nav aria-label="Path"><a href=${toHref(['jobs'])}>Jobs</a></nav>
    <div class="row row-between">
      <h1>${job.product_id} / ${job.image_id}</h1>
      <div class="row">
        <${Badge} tone=${JOB_TONES[job.status]}>${job.status}<//>
        ${can('admin') && isOpen && html`<button disabled=${job.cancel_requested} onClick=${() => void act('cancel', 'The job is cancelled.')}>${job.cancel_requested ? 'Cancelling…' : 'Cancel'}</button>`}
        ${can('admin') && job.status === 'failed' && html`<button class="primary" onClick=${() => void act('retry', 'The job waits again.')}>Retry</button>`}
      </div>
    </div>
    ${
      job.last_error !== null &&
      html`<section class="alert"><strong>${job.last_error.message}</strong> ${job.last_error.suggestion}
        <small><a href=${`/errors#${job.last_error.code}`}>${job.last_error.code}</a></small></section>`
    }
    <div class="product">
      <section aria-labelledby="timeline"><h2 id="timeline">Timeline</h2><${Timeline} job=${job} /></section>
      <section aria-labelledby="about"><h2 id="about">About</h2>
        ${job.kind === 'image' && html`<a class="job-picture" href=${toHref(['catalog', job.product_id])}><${Picture} productId=${job.product_id} imageId=${job.image_id} name=${`Product ${job.product_id}`} /></a>`}
        <dl class="data">${toFacts(job).map(([name, value]) => html`<div key=${name}><dt>${name}</dt><dd>${value}</dd></div>`)}</dl>
      </section>
    </div>
  `;
}

function toFacts(job: Job): readonly (readonly [string, string])[] {
  const facts: readonly (readonly [string, string | null])[] = [
    ['job', job.job_id],
    ['priority', job.priority],
    ['attempts', `${job.attempts} of ${job.max_attempts}`],
    ['crashes', job.crashes > 0 ? toNumber(job.crashes) : null],
    ['stage', job.stage],
    ['position', job.position === null ? null : toNumber(job.position)],
    ['begins in', job.eta_ms === null ? null : `about ${toDuration(job.eta_ms)}`],
    ['worker', job.worker_id],
    ['took', job.processing_ms === null ? null : toDuration(job.processing_ms)],
    ['outcome', job.result?.outcome ?? null],
    ['model', job.result?.model ?? null],
    ['version', job.version === null ? null : String(job.version)],
  ];
  return facts.filter((fact): fact is readonly [string, string] => fact[1] !== null);
}

interface Step {
  readonly at: string;
  readonly title: string;
  readonly tone: Tone;
  readonly note: string;
}

const OUTCOME_TONES: Readonly<Record<string, Tone>> = {
  completed: 'good',
  failed: 'bad',
  crashed: 'bad',
  retried: 'warn',
  deferred: 'warn',
};

function toSteps(job: Job): readonly Step[] {
  const steps: Step[] = [{ at: job.enqueued_at, title: 'Enqueued', tone: 'quiet', note: '' }];
  for (const [
    index,
    { started_at: from, ended_at: to, outcome, error, worker_id: worker },
  ] of job.history.entries()) {
    const took = toDuration(Date.parse(to) - Date.parse(from));
    steps.push({
      at: from,
      title: `Attempt ${index + 1}: ${outcome} after ${took}`,
      tone: OUTCOME_TONES[outcome] ?? 'quiet',
      note: [error?.message, worker === null ? undefined : `by ${worker}`].filter(Boolean).join(' · '),
    });
  }
  if (job.status === 'processing' && job.started_at !== null) {
    steps.push({
      at: job.started_at,
      title: `Running: ${job.stage ?? 'claimed'}`,
      tone: 'busy',
      note: job.worker_id ?? '',
    });
  }
  if (job.status === 'delayed' && job.available_at !== null) {
    steps.push({ at: job.available_at, title: 'Next attempt', tone: 'warn', note: '' });
  }
  if (job.ended_at !== null) {
    steps.push({ at: job.ended_at, title: `Ended: ${job.status}`, tone: JOB_TONES[job.status], note: '' });
  }
  return steps;
}

function Timeline({ job }: { job: Job }) {
  const steps = toSteps(job);
  return html`<ol class="timeline" aria-label=${toCount(steps.length, 'step')}>${steps.map(
    ({ at, title, tone, note }, index) => html`<li key=${index} class=${`step step-${tone}`}>
      <strong>${title}</strong>
      <time datetime=${at}>${toTime(at)}</time>
      ${note !== '' && html`<small>${note}</small>`}
    </li>`,
  )}</ol>`;
}
