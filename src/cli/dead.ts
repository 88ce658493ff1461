import { pipeline } from 'node:stream/promises';
import type { jobPage, redrivenJobs, removedJobs } from '../jobs/schemas.ts';
import { connectServer, type ServerOptions } from './client.ts';
import { toTable } from './table.ts';
import { print, printJson, type Terminal } from './terminal.ts';

interface DeadOptions extends ServerOptions {
  readonly code?: string | undefined;
}

interface ChangeOptions extends DeadOptions {
  readonly all?: boolean | undefined;
  readonly json?: boolean | undefined;
}

export async function listDead(
  {
    code,
    limit,
    json,
    ...server
  }: DeadOptions & { readonly limit: number; readonly json?: boolean | undefined },
  terminal: Terminal,
): Promise<number> {
  const client = await connectServer(server, terminal);
  const query = new URLSearchParams({ limit: String(limit), ...(code !== undefined && { code }) });
  const page = await client.call<typeof jobPage>(`/queue/dead?${query}`);
  if (json) {
    printJson(terminal, page);
    return 0;
  }
  if (page.jobs.length === 0) {
    print(terminal, 'There are no dead letters.');
    return 0;
  }
  const columns = [
    { title: 'job' },
    { title: 'product' },
    { title: 'image' },
    { title: 'ended' },
    { title: 'code' },
    { title: 'why', maxWidth: 80 },
  ];
  const rows = page.jobs.map((job) => [
    job.job_id,
    job.product_id,
    job.image_id,
    job.ended_at ?? '',
    job.last_error?.code ?? '',
    job.last_error?.message ?? '',
  ]);
  print(terminal, toTable(columns, rows));
  if (page.jobs.length < page.total) print(terminal, `\n${page.jobs.length} of ${page.total}`);
  return 0;
}

export async function redriveDead(
  ids: readonly string[],
  options: ChangeOptions,
  terminal: Terminal,
): Promise<number> {
  const client = await connectServer(options, terminal);
  const body = toSelection(ids, options);
  const reply = await client.call<typeof redrivenJobs>('/queue/dead/redrive', { method: 'POST', body });
  if (options.json) printJson(terminal, reply);
  else print(terminal, `${reply.redriven} put back in the queue`);
  return 0;
}

export async function purgeDead(
  ids: readonly string[],
  options: ChangeOptions,
  terminal: Terminal,
): Promise<number> {
  const client = await connectServer(options, terminal);
  const body = toSelection(ids, options);
  const reply = await client.call<typeof removedJobs>('/queue/dead', { method: 'DELETE', body });
  if (options.json) printJson(terminal, reply);
  else print(terminal, `${reply.removed} removed`);
  return 0;
}

/** In the body, since an address can't hold many ids. */
function toSelection(ids: readonly string[], { code, all }: ChangeOptions): object {
  if (all) return { all };
  return code === undefined ? { ids } : { code };
}

export async function exportDead({ code, ...server }: DeadOptions, terminal: Terminal): Promise<number> {
  const client = await connectServer(server, terminal);
  const query = new URLSearchParams(code === undefined ? {} : { code });
  const { body } = await client.open(`/queue/dead/export?${query}`);
  if (body !== null) await pipeline(body, terminal.stdout, { end: false });
  return 0;
}
