import { existsSync, readdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import pLimit from 'p-limit';
import { pino } from 'pino';
import type { Embedder, Preprocessing } from '../models/embedder.ts';
import { createThreadEmbedder } from '../models/embedding/thread-embedder.ts';
import { listModels } from '../models/files/local-models.ts';
import { type ModelDefinition, resolveModel } from '../models/files/model-folder.ts';
import { prepareImage } from '../models/prepare-image.ts';
import { toTable } from '../src/cli/table.ts';
import { VitrineError } from '../src/errors/vitrine-error.ts';
import { type Labelled, toNearest, toRetrieval } from './quality/metrics.ts';
import { CHANGES } from './quality/near-duplicates.ts';

const FITS = ['crop', 'pad', 'stretch'] as const;
const BATCH = 8;

interface Photo {
  readonly label: string;
  readonly bytes: Uint8Array;
}

/**
 * How well each model finds photos of the query's category, by fit, and how often a changed copy of a photo finds
 * its source first; through the worker's own preparation and embedding.
 */
export async function run(args: readonly string[]): Promise<void> {
  const { values } = parseArgs({
    args: [...args],
    options: {
      model: { type: 'string', multiple: true },
      'models-dir': { type: 'string', default: '../shared/models' },
      data: { type: 'string', default: '../shared/data/products' },
      fit: { type: 'string', multiple: true },
      near: { type: 'string', default: '150' },
    },
  });
  const dir = resolve(values['models-dir']);
  const ids =
    values.model ?? (await listModels(dir)).filter(({ state }) => state !== 'missing').map(({ id }) => id);
  const fits = FITS.filter((fit) => values.fit === undefined || values.fit.includes(fit));
  const [gallery, queries] = await Promise.all(
    ['gallery', 'queries'].map((part) => readPhotos(join(resolve(values.data), part))),
  );
  if (gallery === undefined || queries === undefined) return;
  const sources = toSpread(gallery, Number(values.near));
  console.log(
    `${queries.length} queries, ${gallery.length} in the gallery; ${Object.keys(CHANGES).length} near-duplicates of each of ${sources.length} of them\n`,
  );

  const rows: string[][] = [];
  const weakest: string[] = [];
  for (const id of ids) {
    const definition = await resolveModel(id, { dir });
    for (const fit of fits) {
      const result = await measure(definition, fit, gallery, queries, sources);
      const isDefault = fit === definition.preprocessing.fit;
      rows.push([id, isDefault ? `${fit} *` : fit, ...result.figures.map((figure) => figure.toFixed(3))]);
      weakest.push(`${id}, ${fit}: ${result.weakest}`);
      process.stderr.write(`${id}, ${fit}: done\n`);
    }
  }
  const titles = ['P@1', 'P@10', 'mAP@10', 'near-duplicates'];
  const columns = [
    { title: 'model' },
    { title: 'fit' },
    ...titles.map((title) => ({ title, align: 'right' as const })),
  ];
  console.log(toTable(columns, rows));
  console.log('\n* the fit that is used. Near-duplicates that find their source least often:');
  for (const line of weakest) console.log(`  ${line}`);
}

async function measure(
  definition: ModelDefinition,
  fit: Preprocessing['fit'],
  gallery: readonly Photo[],
  queries: readonly Photo[],
  sources: readonly number[],
) {
  const preprocessing = { ...definition.preprocessing, fit };
  await using embedder = createThreadEmbedder({
    ensureModel: async () => ({ ...definition, preprocessing }),
    device: 'cpu',
    threads: 1,
    intraOpThreads: 0,
    maxProcessMemoryBytes: 0,
    logger: pino({ level: 'silent' }),
  });
  await embedder.start();
  const known = await embedAll(embedder, gallery);
  const asked = await embedAll(embedder, queries);
  const { precisionAt1, precisionAt10, meanAveragePrecisionAt10 } = toRetrieval(asked, known);

  const vectors = known.map(({ vector }) => vector);
  const shares = new Map<string, number>();
  for (const [name, change] of Object.entries(CHANGES)) {
    const changed = await Promise.all(
      sources.map(async (index) => ({
        label: '',
        bytes: await change(gallery[index]?.bytes ?? new Uint8Array()),
      })),
    );
    const copies = await embedAll(embedder, changed);
    const found = copies.filter(({ vector }, at) => toNearest(vector, vectors, 1)[0] === sources[at]);
    shares.set(name, found.length / sources.length);
  }
  const [name, share] = [...shares].sort(([, a], [, b]) => a - b)[0] ?? ['', 0];
  const near = [...shares.values()].reduce((sum, value) => sum + value, 0) / shares.size;
  return {
    figures: [precisionAt1, precisionAt10, meanAveragePrecisionAt10, near],
    weakest: `${name} ${share.toFixed(3)}`,
  };
}

async function embedAll(embedder: Embedder, photos: readonly Photo[]): Promise<readonly Labelled[]> {
  const limit = pLimit(2);
  const batches = Array.from({ length: Math.ceil(photos.length / BATCH) }, (_, index) =>
    photos.slice(index * BATCH, (index + 1) * BATCH),
  );
  const embedded = await Promise.all(
    batches.map((batch) =>
      limit(async () => {
        const prepared = await Promise.all(
          batch.map(({ bytes }) =>
            prepareImage(bytes, embedder.model.preprocessing, { maxPixels: 50_000_000, minSidePixels: 1 }),
          ),
        );
        const vectors = await embedder.embedImages(prepared);
        return vectors.map((vector, index) => ({ vector, label: batch[index]?.label ?? '' }));
      }),
    ),
  );
  return embedded.flat();
}

/** Photos of a folder of categories, in a fixed order. */
async function readPhotos(folder: string): Promise<readonly Photo[]> {
  if (!existsSync(folder)) {
    throw new VitrineError('invalid_configuration', `There is no folder ${folder}.`, {
      suggestion: 'Name one with gallery/CATEGORY/*.jpg and queries/CATEGORY/*.jpg by --data.',
    });
  }
  const files = readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile() && /\.(jpe?g|png|webp)$/i.test(entry.name))
    .map((entry) => join(entry.parentPath, entry.name))
    .sort();
  return Promise.all(
    files.map(async (file) => ({ label: file.split('/').at(-2) ?? '', bytes: await readFile(file) })),
  );
}

/** Indices of so many items, spread over the whole list. */
function toSpread(items: readonly unknown[], count: number): readonly number[] {
  const used = Math.min(items.length, Math.max(1, count));
  return Array.from({ length: used }, (_, index) => Math.floor((index * items.length) / used));
}
