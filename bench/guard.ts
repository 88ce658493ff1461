import { dirname, join } from 'node:path';
import { createSampleCatalog } from '../src/samples/sample-catalog.ts';
import { createTempFolder } from '../tests/support/context.ts';
import { startRedis } from '../tests/support/redis-server.ts';
import { BARE_ROUTE, measureLoad, startApi, toSingleLoad } from './enqueue.ts';
import { listPhotos, runProgram } from './pipeline/programs.ts';
import { CASES, type Case, measureBullMq, measureVitrine } from './queue.ts';
import { median, type Row, report } from './support/report.ts';
import { startServer } from './support/server.ts';

const PROGRAMS = join(import.meta.dirname, 'pipeline');
const JOBS = 1_500;
const ROUNDS = 3;
/** Of a bare route's processor time; an enqueue took 6 to 8 times as much when this was written. */
const MOST_OF_BARE = 12;

/** Half of what the benchmark `pipeline` should reach. */
const LEAST_OF_FLOOR = 0.45;
const PICTURES = 480;

/** The floor's processor time per image, in the pipeline's: the sample pictures and the built-in model, in files. */
async function measurePipeline(): Promise<number> {
  await using folder = await createTempFolder();
  const { csv } = await createSampleCatalog(join(folder.path, 'sample'));
  const photos = listPhotos(dirname(csv), PICTURES);
  const model = { model: 'builtin', modelsDir: folder.path };
  const arrangement = {
    decoders: 2,
    embeddingThreads: 1,
    intraOpThreads: 1,
    isSpinning: false,
    batchSize: 8,
  };
  const environment = { MODEL: 'builtin', DATA_DIR: folder.path, IMAGE_ROOTS: folder.path };
  const floor = await runProgram(join(PROGRAMS, 'floor.ts'), { ...model, ...arrangement, photos });
  const whole = await runProgram(join(PROGRAMS, 'whole.ts'), { photos, environment });
  return floor.cpuMs / whole.cpuMs;
}

/**
 * Short versions of the benchmarks `queue`, `enqueue` and `pipeline`, by processor time, which a busy machine hardly changes.
 * `npm test` runs it.
 * @throws Error when something has lost half of what it should reach
 */
export async function run(): Promise<void> {
  await using redis = await startRedis(['--auto-aof-rewrite-percentage', '0']);
  const rows: Row[] = [];
  const add = (name: string, ratio: number, limit: number, isMet: boolean) =>
    rows.push({ case: name, ratio: Number(ratio.toFixed(2)), limit, met: isMet ? 'yes' : 'no' });

  const ratios: Record<Case, number[]> = { one: [], bulk: [], finish: [] };
  for (let round = 0; round <= ROUNDS; round++) {
    const ours = await measureVitrine(redis, JOBS);
    const theirs = await measureBullMq(redis, JOBS);
    // The first round compiles both.
    if (round > 0)
      for (const name of Object.keys(ratios) as Case[])
        ratios[name].push(theirs[name].cpuUs / ours[name].cpuUs);
  }
  for (const name of Object.keys(ratios) as Case[]) {
    const ratio = median(ratios[name]);
    const limit = CASES[name].target / 2;
    add(`${CASES[name].name}: BullMQ's time per job, in ours`, ratio, limit, ratio >= limit);
  }

  // The processor time of another process is only known there.
  if (process.platform === 'linux') {
    await redis.client.flushall('SYNC');
    await using api = await startApi(redis);
    await using bare = await startServer(BARE_ROUTE, {});
    const load = toSingleLoad(api.headers, 2_000);
    for (const server of [api, bare]) await measureLoad(server, load);
    const ratio = (await measureLoad(api, load)).cpuUs / (await measureLoad(bare, load)).cpuUs;
    add(
      "POST /queue/enqueue: the server's time, in a bare route's",
      ratio,
      MOST_OF_BARE,
      ratio <= MOST_OF_BARE,
    );
  }
  // So does the pipeline's, which decodes in processes of its own.
  if (process.platform === 'linux') {
    const ratio = await measurePipeline();
    add("the floor's time per image, in the pipeline's", ratio, LEAST_OF_FLOOR, ratio >= LEAST_OF_FLOOR);
  }
  report('guard', rows);
  const lost = rows.filter(({ met }) => met === 'no').map((row) => row['case']);
  if (lost.length > 0) throw new Error(`Much slower than before: ${lost.join('; ')}.`);
}
