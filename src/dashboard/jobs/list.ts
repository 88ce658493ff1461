import { useEffect, useRef, useState } from 'preact/hooks';
import type { ApiError } from '../lib/api.ts';
import { ask } from '../lib/api.ts';
import { toDuration, toNumber, toTime } from '../lib/format.ts';
import { html } from '../lib/html.ts';
import { toApiError } from '../lib/load.ts';
import { Badge, Empty, Failure, Loading, type Tone } from '../lib/parts.ts';
import { toHref } from '../lib/router.ts';
import type { Job, JobPage } from '../lib/wire.ts';

export const JOB_TONES: Readonly<Record<Job['status'], Tone>> = {
  queued: 'quiet',
  delayed: 'warn',
  processing: 'busy',
  completed: 'good',
  failed: 'bad',
  cancelled: 'quiet',
};

const PAGE = 200;
/** Of a row, as the stylesheet has it. */
const ROW_PX = 56;
/** Rows above and below what is visible. */
const SPARE = 10;

/** Jobs of one query, read page by page as one scrolls. Only the rows that can be seen are in the document. */
export function JobList({ query }: { query: string }) {
  const [jobs, setJobs] = useState<readonly Job[]>([]);
  const [total, setTotal] = useState<number | null>(null);
  const [cursor, setCursor] = useState<string | null | undefined>(undefined);
  const [error, setError] = useState<ApiError | null>(null);
  const [view, setView] = useState({ first: 0, count: 30 });
  const box = useRef<HTMLDivElement>(null);
  const isReading = useRef(false);

  async function readNext(): Promise<void> {
    if (isReading.current || cursor === null) return;
    isReading.current = true;
    setError(null);
    try {
      const more = cursor === undefined ? '' : `&cursor=${encodeURIComponent(cursor)}`;
      const page = await ask<JobPage>(`/queue/jobs?${query}&limit=${PAGE}${more}`);
      setJobs((last) => [...last, ...page.jobs]);
      setTotal(page.total);
      setCursor(page.next_cursor);
    } catch (reason) {
      setError(toApiError(reason));
    }
    isReading.current = false;
  }

  function onScroll(): void {
    const { scrollTop = 0, clientHeight = 0 } = box.current ?? {};
    const first = Math.max(0, Math.floor(scrollTop / ROW_PX) - SPARE);
    const count = Math.ceil(clientHeight / ROW_PX) + 2 * SPARE;
    setView({ first, count });
    if (first + count + PAGE / 2 > jobs.length) void readNext();
  }

  useEffect(() => void readNext(), []);

  if (error !== null && jobs.length === 0)
    return html`<${Failure} error=${error} retry=${() => void readNext()} />`;
  if (total === null) return html`<${Loading} what="the jobs" />`;
  if (total === 0)
    return html`<${Empty} title="No job here"><p>Jobs appear as they come to this state.</p><//>`;
  const shown = jobs.slice(view.first, view.first + view.count);
  return html`
    <p role="status" class="muted">${toNumber(total)} in all</p>
    <div class="job-list" ref=${box} onScroll=${onScroll} tabindex="0" role="region" aria-label="Jobs">
      <ul style=${{ height: `${jobs.length * ROW_PX}px` }}>
        ${shown.map(
          (job, index) => html`<li key=${job.job_id} style=${{ top: `${(view.first + index) * ROW_PX}px` }}
            aria-setsize=${total} aria-posinset=${view.first + index + 1}>
            <a href=${toHref(['jobs', job.job_id])}>
              <span class="job-name">${job.product_id} / ${job.image_id}</span>
              <${Badge} tone=${JOB_TONES[job.status]}>${job.stage ?? job.status}<//>
              <small class="job-note">${toNote(job)}</small>
            </a>
          </li>`,
        )}
      </ul>
    </div>
    ${error !== null && html`<${Failure} error=${error} retry=${() => void readNext()} />`}
  `;
}

function toNote(job: Job): string {
  if (job.status === 'failed') return job.last_error?.message ?? '';
  if (job.ended_at !== null)
    return `${toTime(job.ended_at)}${job.processing_ms === null ? '' : `, took ${toDuration(job.processing_ms)}`}`;
  if (job.available_at !== null && job.status === 'delayed') return `from ${toTime(job.available_at)}`;
  if (job.position !== null) return `number ${toNumber(job.position)} in line`;
  return `since ${toTime(job.started_at ?? job.enqueued_at)}`;
}
