import { VitrineError } from '../errors/vitrine-error.ts';
import type { jobView, pausedState, queueStats, workerList } from '../jobs/schemas.ts';
import { connectServer, type ServerOptions } from './client.ts';
import { toDuration, toTable } from './table.ts';
import { paint, plain, print, printJson, type Terminal } from './terminal.ts';

interface PrintOptions extends ServerOptions {
  readonly json?: boolean | undefined;
}

export async function statsCommand({ json, ...server }: PrintOptions, terminal: Terminal): Promise<number> {
  const client = await connectServer(server, terminal);
  const stats = await client.call<typeof queueStats>('/queue/stats');
  if (json) {
    printJson(terminal, stats);
    return 0;
  }
  const { high, normal, low } = stats.waiting;
  const oldest =
    stats.oldest_waiting_ms === null ? '' : `, the oldest for ${toDuration(stats.oldest_waiting_ms)}`;
  const rows: readonly (readonly [string, string])[] = [
    ['waiting', `${high + normal + low} (high ${high}, normal ${normal}, low ${low})${oldest}`],
    ['delayed', `${stats.delayed}`],
    ['processing', `${stats.processing}`],
    ['completed', `${stats.completed} (${stats.completed_per_second.toFixed(1)} per second)`],
    ['failed', `${stats.failed} (${(stats.failure_rate * 100).toFixed(1)}% of the last minute's attempts)`],
    ['cancelled', `${stats.cancelled}`],
    ['dead letters', `${stats.dead} (${stats.recently_dead} in the last 5 minutes)`],
    ['workers', `${stats.workers_alive}`],
  ];
  for (const [name, value] of rows) print(terminal, `${name.padEnd(12)}  ${value}`);
  for (const { message } of stats.alerts)
    print(terminal, paint(terminal.stdout, 'yellow', `! ${plain(message)}`));
  if (stats.paused)
    print(terminal, paint(terminal.stdout, 'yellow', 'The queue is paused until `vitrine resume`.'));
  return 0;
}

export async function workersCommand({ json, ...server }: PrintOptions, terminal: Terminal): Promise<number> {
  const client = await connectServer(server, terminal);
  const list = await client.call<typeof workerList>('/queue/workers');
  if (json) {
    printJson(terminal, list);
    return 0;
  }
  if (list.count === 0) {
    print(terminal, 'No worker is alive. Start one with `vitrine worker`.');
    return 0;
  }
  const columns = [
    { title: 'worker' },
    { title: 'state' },
    { title: 'model' },
    { title: 'in flight', align: 'right' },
    { title: 'done', align: 'right' },
    { title: 'failed', align: 'right' },
    { title: 'images/s', align: 'right' },
    { title: 'memory', align: 'right' },
    { title: 'up', align: 'right' },
    { title: 'seen', align: 'right' },
  ] as const;
  const rows = list.workers.map((worker) => [
    worker.id,
    worker.state,
    worker.model,
    `${worker.in_flight}`,
    `${worker.done}`,
    `${worker.failed}`,
    worker.images_per_second.toFixed(1),
    `${Math.round(worker.memory_bytes / 2 ** 20)} MiB`,
    toDuration(worker.uptime_ms),
    `${toDuration(worker.last_seen_ms)} ago`,
  ]);
  print(terminal, toTable(columns, rows));
  return 0;
}

const PAUSE_OUTCOMES = {
  pause: 'Paused: workers finish what they hold and claim no more. Jobs are still accepted.',
  resume: 'Workers claim jobs again.',
};

export async function pauseCommand(
  name: 'pause' | 'resume',
  server: ServerOptions,
  terminal: Terminal,
): Promise<number> {
  const client = await connectServer(server, terminal);
  await client.call<typeof pausedState>(`/queue/${name}`, { method: 'POST' });
  print(terminal, PAUSE_OUTCOMES[name]);
  return 0;
}

/** Asks the same of each job, and ends with 1 when it was refused for one of them. */
export async function jobsCommand(
  name: 'cancel' | 'retry',
  ids: readonly string[],
  server: ServerOptions,
  terminal: Terminal,
): Promise<number> {
  const client = await connectServer(server, terminal);
  let refused = 0;
  for (const id of ids) {
    try {
      const path = `/queue/jobs/${encodeURIComponent(id)}/${name}`;
      const job = await client.call<typeof jobView>(path, { method: 'POST' });
      print(terminal, `${id}  ${job.cancel_requested ? 'will be cancelled' : job.status}`);
    } catch (error) {
      if (!(error instanceof VitrineError) || error.status >= 500) throw error;
      refused += 1;
      print(terminal, `${id}  ${paint(terminal.stdout, 'red', error.message)} ${error.suggestion}`);
    }
  }
  return refused > 0 ? 1 : 0;
}
