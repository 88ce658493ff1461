import { readdirSync, readFileSync } from 'node:fs';
import { join, relative, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import pLimit from 'p-limit';
import { createTempFolder } from '../tests/support/context.ts';
import { createClient } from '../tests/support/http-client.ts';
import { startProgram } from '../tests/support/program.ts';
import { until } from '../tests/support/until.ts';

/**
 * How often a query photo finds its own category first (P@1), through the HTTP API alone: the gallery is enqueued,
 * a worker indexes it, and each query is an upload to POST /search.
 */
export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      model: { type: 'string', default: 'builtin' },
      'models-dir': { type: 'string', default: '../shared/models' },
      data: { type: 'string', default: '../shared/data/products' },
    },
  });
  const data = resolve(values.data);
  await using folder = await createTempFolder();
  await using server = startProgram(
    'src/cli.ts',
    {
      DATA_DIR: folder.path,
      PORT: '0',
      MODEL: values.model,
      MODELS_DIR: resolve(values['models-dir']),
      IMAGE_ROOTS: data,
      LOG_LEVEL: 'info',
    },
    ['serve'],
  );
  const client = createClient(await until('the server', () => /http:\/\/[\d.:]+/.exec(server.output)?.[0]));
  const jobs = listPhotos(join(data, 'gallery')).map(({ path, category }) => ({
    product_id: relative(data, path),
    image_path: path,
    category,
  }));
  const { accepted, rejected } = await client.enqueueBatch(jobs);
  const { dead } = await until(
    'the index',
    async () => {
      const stats = await client.stats();
      return stats.total_pending === 0 ? stats : undefined;
    },
    600_000,
  );
  console.log(`${values.model}: ${accepted} accepted, ${rejected.length} rejected, ${dead} failed`);

  const queries = listPhotos(join(data, 'queries'));
  const limit = pLimit(4);
  const right = await Promise.all(
    queries.map(({ path, category }) =>
      limit(async () => {
        const { hits } = await client.searchByUpload(readFileSync(path), { limit: '1' });
        return hits[0]?.payload['category'] === category;
      }),
    ),
  );
  const found = right.filter(Boolean).length;
  console.log(`P@1 ${(found / queries.length).toFixed(3)} (${found} of ${queries.length} queries)`);
}

interface Photo {
  readonly path: string;
  readonly category: string;
}

/** Photos by folder: the folder's name is their category. */
function listPhotos(folder: string): readonly Photo[] {
  return readdirSync(folder).flatMap((category) =>
    readdirSync(join(folder, category)).map((name) => ({ path: join(folder, category, name), category })),
  );
}
