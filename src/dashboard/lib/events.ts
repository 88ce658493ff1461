import { signal } from '@preact/signals';
import type { Job, QueueStats, WorkerList } from './wire.ts';

/** What GET /events says, for all views. */
export const stats = signal<QueueStats | null>(null);
export const workers = signal<WorkerList | null>(null);
/** When `workers` came, by `performance.now()`. */
export const workersAt = signal(0);
/** The jobs that ended last, the newest first. */
export const ended = signal<readonly Job[]>([]);
export const isLive = signal(false);
export const queueProblem = signal<{ readonly detail: string; readonly suggestion: string } | null>(null);

const KEPT = 100;
const RETRY_MS = 3_000;

/** Listens for as long as the page is open. */
export function listen(): void {
  const source = new EventSource('/events');
  const on = (name: string, take: (data: unknown) => void) => {
    source.addEventListener(name, (event) => take(JSON.parse((event as MessageEvent<string>).data)));
  };
  source.onopen = () => {
    isLive.value = true;
  };
  source.onerror = () => {
    isLive.value = false;
    // The browser connects again by itself, unless the server refused.
    if (source.readyState === EventSource.CLOSED) setTimeout(listen, RETRY_MS);
  };
  on('stats', (data) => {
    stats.value = data as QueueStats;
    queueProblem.value = null;
  });
  on('workers', (data) => {
    workers.value = data as WorkerList;
    workersAt.value = performance.now();
  });
  on('job', (data) => {
    ended.value = [data as Job, ...ended.value].slice(0, KEPT);
  });
  on('problem', (data) => {
    queueProblem.value = data as { detail: string; suggestion: string };
  });
}
