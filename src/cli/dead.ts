import { pipeline } from 'node:stream/promises';
import { deadPage, redrivenJobs } from '../jobs/dead-schemas.ts';
import { removedJobs } from '../jobs/queue-schemas.ts';
import { type Client, openClient } from './client.ts';
import {
  defineCommand,
  JSON_OPTION,
  parseCount,
  print,
  printJson,
  SERVER_OPTION,
  type Terminal,
  UsageError,
} from './command.ts';
import { toNearest } from './nearest.ts';
import { toTable } from './table.ts';

interface Selection {
  readonly ids: readonly string[];
  readonly code: string | undefined;
  readonly all: boolean;
}

interface DeadValues {
  readonly limit: string;
  readonly json: boolean;
}

type Action = (client: Client, selection: Selection, values: DeadValues, terminal: Terminal) => Promise<void>;

const ACTIONS: Readonly<Record<string, Action>> = {
  list: listDead,
  redrive: redriveDead,
  purge: purgeDead,
  export: exportDead,
};

export const deadCommand = defineCommand({
  name: 'dead',
  summary: 'List, put back, remove or export the jobs that failed for good',
  arguments: 'list|redrive|purge|export [JOB_ID ...]',
  count: [1, 1_001],
  details: `list      shows them with their last error
redrive   puts those of the JOB_IDs, of --code or --all back in the queue, with fresh attempts
purge     removes those of the JOB_IDs, of --code or --all for good
export    writes them to stdout, one JSON object a line`,
  options: {
    code: { type: 'string', hint: 'CODE', help: 'only those with this error code' },
    all: { type: 'boolean', default: false, help: 'every one of them (redrive, purge)' },
    limit: { type: 'string', short: 'n', hint: 'N', default: '20', help: 'how many to list; default 20' },
    json: JSON_OPTION,
    server: SERVER_OPTION,
  },
  examples: [
    'vitrine dead list --code image_not_found',
    'vitrine dead redrive --all',
    'vitrine dead export > dead.jsonl',
  ],
  async run({ code, all, limit, json, server }, [name = '', ...ids], terminal) {
    const action = Object.hasOwn(ACTIONS, name) ? ACTIONS[name] : undefined;
    if (action === undefined) {
      const near = toNearest(name, Object.keys(ACTIONS));
      const hint = near === null ? '' : ` Did you mean \`vitrine dead ${near}\`?`;
      throw new UsageError(`vitrine dead has no "${name}".${hint}`);
    }
    const selection = { ids, code, all };
    checkSelection(name, selection);
    await using client = await openClient({ server, environment: terminal.environment });
    await action(client, selection, { limit, json }, terminal);
    return 0;
  },
});

function checkSelection(name: string, { ids, code, all }: Selection): void {
  const given = [ids.length > 0, code !== undefined, all].filter(Boolean).length;
  const changes = name === 'redrive' || name === 'purge';
  if (changes && given !== 1)
    throw new UsageError(`vitrine dead ${name} needs one of JOB_IDs, --code and --all.`);
  if (!changes && (ids.length > 0 || all))
    throw new UsageError(`vitrine dead ${name} takes no JOB_IDs and no --all.`);
}

async function listDead(
  client: Client,
  { code }: Selection,
  { limit, json }: DeadValues,
  terminal: Terminal,
) {
  const query = new URLSearchParams({
    limit: String(parseCount('limit', limit, 1, 1_000)),
    ...(code !== undefined && { code }),
  });
  const page = await client.call(deadPage, `/queue/dead?${query}`);
  if (json) {
    printJson(terminal, page);
    return;
  }
  if (page.jobs.length === 0) {
    print(terminal, 'The dead letter is empty.');
    return;
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
}

async function redriveDead(
  client: Client,
  { ids, code, all }: Selection,
  { json }: DeadValues,
  terminal: Terminal,
) {
  const body = all ? { all } : code === undefined ? { ids } : { code };
  const reply = await client.call(redrivenJobs, '/queue/dead/redrive', { method: 'POST', body });
  if (json) printJson(terminal, reply);
  else print(terminal, `${reply.redriven} put back in the queue`);
}

async function purgeDead(
  client: Client,
  { ids, code, all }: Selection,
  { json }: DeadValues,
  terminal: Terminal,
) {
  const query = new URLSearchParams(all ? { all: 'true' } : code === undefined ? [] : { code });
  for (const id of ids) query.append('id', id);
  const reply = await client.call(removedJobs, `/queue/dead?${query}`, { method: 'DELETE' });
  if (json) printJson(terminal, reply);
  else print(terminal, `${reply.removed} removed`);
}

async function exportDead(client: Client, { code }: Selection, _values: DeadValues, terminal: Terminal) {
  const query = new URLSearchParams(code === undefined ? {} : { code });
  const { body } = await client.open(`/queue/dead/export?${query}`);
  if (body !== null) await pipeline(body, terminal.stdout, { end: false });
}
