import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { createTempFolder } from '../tests/support/context.ts';
import { startRedis } from '../tests/support/redis-server.ts';
import type { NaiveOptions } from './peers/naive.ts';
import { type Measured, perSecond } from './pipeline/measured.ts';
import { listPhotos, runProgram, SHARED, startStoreDouble } from './pipeline/programs.ts';
import type { WholeOptions } from './pipeline/whole.ts';
import { atLeast, median, report } from './support/report.ts';

const TARGET = 3;

/**
 * Images per second, compared with what one would write with the same libraries: see peers/naive.ts. The same photos, model,
 * redis-server and double of Qdrant, in turns.
 */
export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      folder: { type: 'string', default: join(SHARED, 'data') },
      'models-dir': { type: 'string', default: join(SHARED, 'models') },
      model: { type: 'string', default: 'mobilenet-v3-small' },
      images: { type: 'string', default: '600' },
      rounds: { type: 'string', default: '3' },
    },
  });
  const photos = listPhotos(values.folder, Number(values.images));
  const { model, 'models-dir': modelsDir } = values;

  const runNaive = async (): Promise<Measured> => {
    await using redis = await startRedis();
    await using double = await startStoreDouble();
    const options: NaiveOptions = { photos, redisPort: redis.port, qdrantUrl: double.url, model, modelsDir };
    return await runProgram(join(import.meta.dirname, 'peers/naive.ts'), options);
  };
  const runVitrine = async (): Promise<Measured> => {
    await using redis = await startRedis();
    await using double = await startStoreDouble();
    await using folder = await createTempFolder();
    const environment = {
      MODEL: model,
      MODELS_DIR: modelsDir,
      MODELS_OFFLINE: 'true',
      IMAGE_ROOTS: values.folder,
    };
    const urls = { REDIS_URL: redis.url, QDRANT_URL: double.url, DATA_DIR: folder.path };
    const options: WholeOptions = { photos, environment: { ...environment, ...urls } };
    return await runProgram(join(import.meta.dirname, 'pipeline/whole.ts'), options);
  };

  const vitrine: Measured[] = [];
  const naive: Measured[] = [];
  for (let round = 0; round < Number(values.rounds); round += 1) {
    if (round % 2 === 0) naive.push(await runNaive());
    vitrine.push(await runVitrine());
    if (round % 2 === 1) naive.push(await runNaive());
  }
  const toRow = (side: string, rounds: readonly Measured[]) => ({
    side,
    'images/s': Math.round(median(rounds.map(perSecond))),
    'processor ms per image': median(rounds.map(({ cpuMs }) => cpuMs)).toFixed(2),
  });
  const ratio = median(vitrine.map((one, round) => perSecond(one) / perSecond(naive[round] ?? one)));
  report('peers', [
    { ...toRow('Vitrine', vitrine), ratio: ratio.toFixed(2), ...atLeast(ratio, TARGET) },
    { ...toRow('BullMQ, transformers.js, one upsert per image', naive), ratio: '', target: '', met: '' },
  ]);
}
