import { spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { createTempFolder } from '../tests/support/context.ts';
import { drawImage } from '../tests/support/images.ts';
import { type Program, root, startProgram } from '../tests/support/program.ts';
import { type RedisServer, startRedis } from '../tests/support/redis-server.ts';
import { until } from '../tests/support/until.ts';
import { atMost, median, report } from './support/report.ts';

/** Times a bare `node -e 0` that a command may take. */
const TARGET = 3;
const COMMAND = join(root, 'src', 'vitrine.mjs');
const CACHE = join(root, 'node_modules', '.cache', 'compile');
const ID = '00000000-0000-7000-8000-000000000000';

/** Every command that only asks a server. What the server refuses takes as long as what it does. */
const REMOTE_COMMANDS: readonly (readonly string[])[] = [
  ['stats'],
  ['workers'],
  ['pause'],
  ['resume'],
  ['cancel', ID],
  ['retry', ID],
  ['search', '--product', 'lamp'],
  ['products', 'list'],
  ['products', 'show', 'lamp'],
  ['products', 'update', 'lamp', '--price', '1'],
  ['products', 'delete', 'nothing'],
  ['products', 'duplicates'],
  ['dead', 'list'],
  ['dead', 'redrive', '--all'],
  ['dead', 'purge', '--all'],
  ['dead', 'export'],
];

/**
 * How long commands take, compared with a Node that does nothing, in turns; and how long API and worker take to their
 * first job, stage by stage.
 */
export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      rounds: { type: 'string', default: '15' },
      starts: { type: 'string', default: '7' },
    },
  });
  await using redis = await startRedis();
  await measureStarts(redis, Number(values.starts));
  await measureCommands(redis, Number(values.rounds));
}

// Programs ------------------------------------------------------------------------------------------------------------

const API_STAGES = ['Node', 'load code, listen', 'answer 202 to the first job'] as const;
const WORKER_STAGES = ['Node', 'load code, claim, load the model', 'complete the first job'] as const;

async function measureStarts(redis: RedisServer, starts: number): Promise<void> {
  const rows = [];
  for (const [cache, name] of [
    [CACHE, 'from the cache'],
    [undefined, 'compiled at each start'],
  ] as const) {
    const api: (readonly number[])[] = [];
    const worker: (readonly number[])[] = [];
    for (let n = 0; n < starts; n++) {
      const measured = await measureStart(redis, cache === undefined ? {} : { NODE_COMPILE_CACHE: cache });
      api.push(measured.api);
      worker.push(measured.worker);
    }
    for (const [program, stages, all] of [
      ['API', API_STAGES, api],
      ['worker', WORKER_STAGES, worker],
    ] as const) {
      rows.push({
        program,
        code: name,
        ...Object.fromEntries(
          stages.map((stage, index) => [stage, Math.round(median(all.map((ms) => ms[index] ?? 0)))]),
        ),
        'all, ms': Math.round(median(all.map((ms) => ms.reduce((sum, each) => sum + each, 0)))),
      });
    }
  }
  console.log(`Milliseconds to the first job, medians of ${starts} starts; queue on Redis, built-in model\n`);
  report('startup-programs', rows);
}

/** The milliseconds of each stage of an API process, and of a worker process for whose first job it waits. */
async function measureStart(redis: RedisServer, environment: Readonly<Record<string, string>>) {
  await redis.client.flushall();
  await using folder = await createTempFolder();
  const settings = {
    ...environment,
    DATA_DIR: folder.path,
    REDIS_URL: redis.url,
    MODEL: 'builtin',
    PORT: '0',
  };
  const nodeMs = measureNode();

  const apiFrom = Date.now();
  await using api = startProgram('src/main.ts', settings);
  const url = await until('the API', () => /"url":"(http:[^"]+)"/.exec(api.output)?.[1], 60_000);
  const listeningAt = toLoggedAt(api, 'listening');
  const image = (await drawImage(1)).toString('base64');
  const sentAt = Date.now();
  const reply = await fetch(`${url}/queue/enqueue`, {
    method: 'POST',
    headers: { 'Content-Type': 'application/json' },
    body: JSON.stringify({ product_id: 'lamp', image_base64: image }),
  });
  const { job_id: id } = (await reply.json()) as { job_id: string };
  const acceptMs = Date.now() - sentAt;

  const workerFrom = Date.now();
  await using worker = startProgram('workers/main.ts', settings);
  const job = await until('the first job', async () => {
    const view = (await (await fetch(`${url}/queue/status/${id}`)).json()) as {
      status: string;
      ended_at: string;
    };
    return view.status === 'completed' ? view : undefined;
  });
  const readyAt = toLoggedAt(worker, 'worker ready');
  await Promise.all([api.stop(), worker.stop()]);
  return {
    api: [nodeMs, listeningAt - apiFrom - nodeMs, acceptMs],
    worker: [nodeMs, readyAt - workerFrom - nodeMs, Date.parse(job.ended_at) - readyAt],
  };
}

function measureNode(): number {
  const from = performance.now();
  spawnSync(process.execPath, ['-e', '0']);
  return performance.now() - from;
}

/** When the program logged the message; epoch milliseconds. */
function toLoggedAt(program: Program, message: string): number {
  const line = program.output.split('\n').find((text) => text.includes(`"msg":"${message}"`));
  return Date.parse((JSON.parse(line ?? '{}') as { time: string }).time);
}

// Commands ------------------------------------------------------------------------------------------------------------

interface Taken {
  readonly wallMs: number;
  readonly cpuMs: number;
}

async function measureCommands(redis: RedisServer, rounds: number): Promise<void> {
  await redis.client.flushall();
  await using folder = await createTempFolder();
  await using api = startProgram('src/main.ts', {
    ...{ DATA_DIR: folder.path, REDIS_URL: redis.url, MODEL: 'builtin', PORT: '0', LOG_LEVEL: 'info' },
  });
  await until('the API', () => (api.output.includes('ready to search') ? true : undefined));
  const url = /"url":"(http:[^"]+)"/.exec(api.output)?.[1] ?? '';
  const bare = 'node -e 0';
  const cases = new Map<string, readonly string[]>([
    [bare, ['-e', '0']],
    ['vitrine --help', [COMMAND, '--help']],
    ...REMOTE_COMMANDS.map((args): [string, readonly string[]] => [
      `vitrine ${args.filter((arg) => arg !== ID).join(' ')}`,
      [COMMAND, ...args, '--server', url],
    ]),
  ]);
  // Compiled by then.
  for (const args of cases.values()) measureCommand(args);
  const taken = new Map([...cases.keys()].map((name) => [name, [] as Taken[]]));
  for (let round = 0; round < rounds; round++)
    for (const [name, args] of cases) taken.get(name)?.push(measureCommand(args));
  api.child.kill('SIGTERM');
  await once(api.child, 'close');

  const toMedian = (name: string, of: keyof Taken) => median((taken.get(name) ?? []).map((each) => each[of]));
  const rows = [...cases.keys()].map((name) => {
    const [cpuMs, wallMs] = [toMedian(name, 'cpuMs'), toMedian(name, 'wallMs')];
    const cpu = cpuMs / toMedian(bare, 'cpuMs');
    const wall = wallMs / toMedian(bare, 'wallMs');
    return {
      command: name,
      'processor, ms': Math.round(cpuMs),
      'wall, ms': Math.round(wallMs),
      'processor ratio': Number(cpu.toFixed(2)),
      'wall ratio': Number(wall.toFixed(2)),
      ...atMost(Math.max(cpu, wall), TARGET),
    };
  });
  console.log(`\nMedians of ${rounds} rounds, in turns\n`);
  report('startup', rows);
}

/** Bash counts the processor time of a command; Node only its own. */
function measureCommand(args: readonly string[]): Taken {
  const script = 'TIMEFORMAT="%R %U %S"; { time "$@" >/dev/null 2>&1; } 2>&1';
  const { stdout } = spawnSync('bash', ['-c', script, 'bash', process.execPath, ...args], {
    encoding: 'utf8',
  });
  const [wall = 0, user = 0, system = 0] = stdout.split(' ').map(Number);
  return { wallMs: wall * 1000, cpuMs: (user + system) * 1000 };
}
