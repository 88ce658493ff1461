import { openCatalog } from '../catalog/read-catalog.ts';
import type { Context } from '../context.ts';
import { openClient } from './client.ts';
import { defineCommand, print, printJson, SERVER_OPTION, type Terminal } from './command.ts';
import { type IndexOptions, type IndexProgress, indexCatalog } from './index-catalog.ts';
import { printReport } from './index-report.ts';
import { toPatientClient } from './patient-client.ts';
import { showProgress } from './progress.ts';

export const indexCommand = defineCommand({
  name: 'index',
  drains: true,
  summary: 'Index the images of a catalog or a folder, and wait until all are done',
  arguments: 'PATH',
  count: [1, 1],
  details: `PATH is a catalog (.csv, .tsv, .jsonl), a folder of images, or one image.

A catalog has the columns product_id and image_path or image_url, and may have image_id, name,
description, category, brand, price, currency, tags and metadata; relative paths begin in its
folder. In a folder, the file's name is the product's id and its folder the category.

Jobs go to the running server; where none runs, this process does the work itself. Files under
IMAGE_ROOTS are sent as paths, others in the catalog's folder as bytes. Ends with 1 when an image
could not be indexed.`,
  options: {
    server: SERVER_OPTION,
    json: { type: 'boolean', default: false, help: 'print the outcome as JSON' },
  },
  examples: [
    'vitrine index catalog.csv',
    'vitrine index ./photos',
    'vitrine index feed.jsonl --server http://vitrine.internal:8000',
  ],
  async run({ server, json }, [path = ''], terminal) {
    const catalog = await openCatalog(path);
    await using client = await openClient({ server, environment: terminal.environment });
    const where = client.address === null ? 'in this process' : `at ${client.address}`;
    terminal.stderr.write(`Indexing ${path} ${where}\n`);
    const startedAt = performance.now();
    // Not the catalog's folder, even in this process: whoever takes the jobs after a Ctrl+C must read them too.
    const sharedFolders = client.config.images.roots;
    const progress = await runIndex({ catalog, client, sharedFolders }, terminal);
    const ms = performance.now() - startedAt;
    if (json) printJson(terminal, { ...progress, withoutWorker: undefined, seconds: ms / 1_000 });
    else printReport(terminal, progress, ms);
    return progress.failures.length > 0 ? 1 : 0;
  },
});

/**
 * Indexes the catalog with a progress display, with a worker in this process where the client has no server.
 * @throws VitrineError
 */
export async function runIndex(
  { catalog, client, sharedFolders }: Pick<IndexOptions, 'catalog' | 'client' | 'sharedFolders'>,
  terminal: Terminal,
): Promise<IndexProgress> {
  const display = showProgress(terminal);
  const stop = new AbortController();
  const signal = AbortSignal.any([terminal.signal, stop.signal]);
  const indexing = indexCatalog({
    catalog,
    client: toPatientClient(client, signal),
    sharedFolders,
    signal,
    onProgress: (progress) => display.update(progress),
  });
  try {
    return client.context === null ? await indexing : await withWorker(client.context, indexing);
  } catch (error) {
    if (terminal.signal.aborted)
      print(terminal, 'Stopped. What was enqueued stays in the queue; the next worker takes it.');
    throw error;
  } finally {
    stop.abort();
    display.stop();
  }
}

/** The work's outcome, with a worker beside it; a worker that can't begin ends both. */
export async function withWorker<T>(context: Context, work: Promise<T>): Promise<T> {
  const { createWorker } = await import('../../workers/worker.ts');
  const worker = createWorker(context);
  const running = worker.run();
  try {
    const broken = running.then(() => Promise.withResolvers<never>().promise);
    return await Promise.race([work, broken]);
  } finally {
    worker.stop();
    await running.catch(() => {});
  }
}
