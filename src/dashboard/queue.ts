import { useEffect, useState } from 'preact/hooks';
import { ask } from './lib/api.ts';
import { Chart } from './lib/chart.ts';
import { ended, queueProblem, stats, workers, workersAt } from './lib/events.ts';
import { toBytes, toCompact, toCount, toDuration, toNumber, toTime } from './lib/format.ts';
import { html } from './lib/html.ts';
import { useLoad } from './lib/load.ts';
import { attempt, notify } from './lib/notices.ts';
import { Badge, Empty, Failure, Figure, Loading, type Tone } from './lib/parts.ts';
import { toHref } from './lib/router.ts';
import { can } from './lib/session.ts';
import type { QueueHistory, QueueStats, Worker } from './lib/wire.ts';

/** What runs, what waits, who works, and what to look at. */
export function QueueView() {
  const now = stats.value;
  const problem = queueProblem.value;
  if (now === null && problem === null) return html`<h1>Queue</h1><${Loading} what="the queue" />`;
  return html`
    <div class="row row-between">
      <h1>Queue</h1>
      ${now !== null && can('admin') && html`<${PauseButton} isPaused=${now.paused} />`}
    </div>
    ${problem !== null && html`<section class="failure" role="alert"><h2>${problem.detail}</h2><p>${problem.suggestion}</p></section>`}
    ${now !== null && html`<${Alerts} stats=${now} /><${Figures} stats=${now} />`}
    <${History} />
    <${Workers} />
    <${LastEnded} />
  `;
}

function PauseButton({ isPaused }: { isPaused: boolean }) {
  const [isBusy, setBusy] = useState(false);
  const change = async () => {
    setBusy(true);
    const action = isPaused ? 'resume' : 'pause';
    const isDone = await attempt(() => ask(`/queue/${action}`, { method: 'POST' }));
    if (isDone)
      notify(isPaused ? 'The queue runs again.' : 'The queue is paused: workers finish what they hold.');
    setBusy(false);
  };
  return html`<button class=${isPaused ? 'primary' : ''} disabled=${isBusy} onClick=${change}>
    ${isPaused ? 'Resume' : 'Pause'}
  </button>`;
}

const ADVICE: Readonly<Record<QueueStats['alerts'][number]['code'], string>> = {
  backlog: 'Start more workers, or check that those that run are not slow.',
  oldest_waiting: 'Start more workers; jobs of a low priority wait behind others.',
  no_workers: 'Start a worker: npm run worker, or docker compose up --scale worker=1.',
  failure_rate: 'Look at the dead letters: one code often explains most failures.',
  dead_letters: 'Look at the dead letters, fix the cause, and redrive them.',
  dead_letters_dropped: 'Redrive or delete dead letters, or raise MAX_DEAD.',
};

function Alerts({ stats: { alerts, paused } }: { stats: QueueStats }) {
  return html`<div class="alerts">
    ${paused && html`<p class="alert"><strong>Paused.</strong> Jobs are accepted, and no worker takes one until you resume.</p>`}
    ${alerts.map(
      ({ code, message }) =>
        html`<p key=${code} class="alert" role="alert"><strong>${message}</strong> ${ADVICE[code]}</p>`,
    )}
  </div>`;
}

function Figures({ stats: now }: { stats: QueueStats }) {
  const { high, normal, low } = now.waiting;
  const rate = now.completed_per_second;
  const eta = rate > 0 && now.queue_size > 0 ? toDuration((now.queue_size / rate) * 1_000) : null;
  return html`<dl class="figures">
    <${Figure} name="Waiting" value=${toCompact(now.queue_size)}
      note=${`${toCompact(high)} high, ${toCompact(normal)} normal, ${toCompact(low)} low`} />
    <${Figure} name="Delayed" value=${toCompact(now.delayed)} note=${now.hosts.length > 0 ? `${toCount(now.hosts.length, 'host')} paused` : 'for their time'} />
    <${Figure} name="Processing" value=${toNumber(now.processing)} note=${now.processing_ms ? `half take ${toDuration(now.processing_ms.p50)}` : 'nothing yet'} />
    <${Figure} name="Completed" value=${toCompact(now.completed)} note=${`${rate.toFixed(1)} per second`} />
    <${Figure} name="Failing" value=${`${(now.failure_rate * 100).toFixed(1)} %`} note="of the last minute's attempts" />
    <${Figure} name="Dead letters" value=${html`<a href=${toHref(['dead-letters'])}>${toCompact(now.dead)}</a>`} note=${`${toNumber(now.recently_dead)} in 5 minutes`} />
    <${Figure} name="Oldest waits" value=${now.oldest_waiting_ms === null ? '–' : toDuration(now.oldest_waiting_ms)} note="since it could start" />
    <${Figure} name="Empty in" value=${eta ?? '–'} note="at the present rate" />
  </dl>`;
}

const MINUTE_MS = 60_000;
/** After the end of a minute, so that the server has noted it. */
const NOTED_MS = 1_000;

function History() {
  const [minute, setMinute] = useState(0);
  useEffect(() => {
    const wait = MINUTE_MS - (Date.now() % MINUTE_MS) + NOTED_MS;
    const timer = setTimeout(() => setMinute((last) => last + 1), wait);
    return () => clearTimeout(timer);
  }, [minute]);
  const { data, error, reload } = useLoad(`history-${minute}`, (signal) =>
    ask<QueueHistory>('/queue/history', { signal }),
  );
  if (error !== undefined) return html`<${Failure} error=${error} retry=${reload} />`;
  if (data === undefined) return null;
  const { minutes } = data;
  const nextMinute = new Date(Math.ceil(Date.now() / MINUTE_MS) * MINUTE_MS).toISOString();
  const series = (name: 'completed' | 'waiting' | 'failed') =>
    minutes.map((each) => ({ at: each.at, value: each[name] }));
  return html`<section aria-labelledby="history">
    <h2 id="history">Last hour</h2>
    ${
      minutes.length === 0
        ? html`<${Empty} title=${`The first minute appears at ${toTime(nextMinute)}`}><p>This server has just started. It counts each minute from now on, and keeps an hour.</p><//>`
        : html`<div class="charts">
            <${Chart} title="Completed per minute" points=${series('completed')} tone="good" />
            <${Chart} title="Waiting" points=${series('waiting')} tone="busy" />
            <${Chart} title="Failed per minute" points=${series('failed')} tone="bad" />
          </div>`
    }
  </section>`;
}

const STATE_TONES: Readonly<Record<Worker['state'], Tone>> = {
  starting: 'quiet',
  loading: 'quiet',
  idle: 'good',
  working: 'busy',
  draining: 'warn',
};

/** A worker that was not heard of for longer than three heartbeats may be gone. */
const LATE_MS = 20_000;

function Workers() {
  const list = workers.value?.workers ?? [];
  // Ages grow between two reports.
  const [now, setNow] = useState(performance.now());
  useEffect(() => {
    const timer = setInterval(() => setNow(performance.now()), 1_000);
    return () => clearInterval(timer);
  }, []);
  const age = Math.max(0, now - workersAt.value);
  return html`<section aria-labelledby="workers">
    <h2 id="workers">Workers</h2>
    ${
      list.length === 0
        ? html`<${Empty} title="No worker is running"><p>Jobs wait until one is started: <code>npm run worker</code>, or <code>docker compose up --scale worker=2</code>.</p><//>`
        : html`<div class="table" tabindex="0" role="region" aria-label="Table of workers"><table>
            <thead><tr><th>Worker</th><th>State</th><th>Model</th><th class="end">In flight</th><th class="end">Done</th>
              <th class="end">Failed</th><th class="end">Rate</th><th class="end">Memory</th><th class="end">Last heartbeat</th></tr></thead>
            <tbody>${list.map((worker) => {
              const seen = worker.last_seen_ms + age;
              return html`<tr key=${worker.id}>
                <td><strong>${worker.host}</strong> <small>${worker.pid}</small></td>
                <td><${Badge} tone=${seen > LATE_MS ? 'bad' : STATE_TONES[worker.state]}>${seen > LATE_MS ? 'silent' : worker.state}<//></td>
                <td>${worker.model}</td>
                <td class="end">${worker.in_flight} of ${worker.concurrency}</td>
                <td class="end">${toCompact(worker.done)}</td>
                <td class="end">${toCompact(worker.failed)}</td>
                <td class="end">${worker.images_per_second.toFixed(1)} per s</td>
                <td class="end">${toBytes(worker.memory_bytes)}</td>
                <td class="end">${seen < 1_000 ? 'just now' : `${toDuration(Math.floor(seen / 1_000) * 1_000)} ago`}</td>
              </tr>`;
            })}</tbody>
          </table></div>`
    }
  </section>`;
}

const END_TONES: Readonly<Record<string, Tone>> = { completed: 'good', failed: 'bad', cancelled: 'quiet' };

function LastEnded() {
  if (ended.value.length === 0) return null;
  return html`<section aria-labelledby="ended">
    <h2 id="ended">Just ended</h2>
    <ul class="lines">${ended.value.slice(0, 12).map(
      (job) => html`<li key=${`${job.job_id}${job.ended_at}`}>
        <${Badge} tone=${END_TONES[job.status] ?? 'quiet'}>${job.status}<//>
        <a href=${toHref(['jobs', job.job_id])}>${job.product_id} / ${job.image_id}</a>
        <small>${job.last_error?.message ?? ''}</small>
        <time datetime=${job.ended_at ?? ''}>${job.ended_at ? toTime(job.ended_at) : ''}</time>
      </li>`,
    )}</ul>
  </section>`;
}
