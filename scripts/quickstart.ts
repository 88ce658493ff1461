import { join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { isFault } from '../src/catalog/feed.ts';
import type { ProductImage } from '../src/catalog/product-image.ts';
import { type Catalog, openCatalog } from '../src/catalog/read-catalog.ts';
import { openClient } from '../src/cli/client.ts';
import { paint, print, type Terminal } from '../src/cli/command.ts';
import { runIndex } from '../src/cli/index-command.ts';
import { printReport } from '../src/cli/index-report.ts';
import { printHits } from '../src/cli/search.ts';
import { serve } from '../src/cli/serve.ts';
import { parseConfig } from '../src/config/config.ts';
import { type Environment, readEnvironment } from '../src/config/env.ts';
import { runProgram } from '../src/program.ts';
import { searchReply } from '../src/search/schemas.ts';
import { createSampleCatalog } from './sample-catalog.ts';

const USAGE = `Usage: npm run quickstart [-- [--catalog FILE.csv] [--once]]

Starts Vitrine, indexes a catalog, and shows the products that look most like one of them. Without a
catalog it draws one of its own. Needs no Redis and no Qdrant; uses them when REDIS_URL or QDRANT_URL is set.

  --catalog FILE   index this .csv or .jsonl file, or folder of images
  --once           end after the search; else the server stays until Ctrl+C`;

await runProgram(async () => {
  const { values } = parseArgs({
    options: {
      catalog: { type: 'string' },
      once: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  });
  if (values.help) {
    process.stdout.write(`${USAGE}\n`);
    return 0;
  }
  return await quickstart(values.catalog, values.once);
});

async function quickstart(path: string | undefined, once: boolean): Promise<number> {
  const given = readEnvironment();
  const stop = new AbortController();
  // The second signal ends the process at once, as without a handler.
  for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => stop.abort());
  const terminal: Terminal = {
    environment: given,
    stdout: process.stdout,
    stderr: process.stderr,
    signal: stop.signal,
  };
  const csv = path ?? (await drawSample(terminal, parseConfig(given).dataDir));
  const catalog = await openCatalog(csv);
  const environment = toEnvironment(given, once);

  let failed = false;
  await serve({
    environment,
    ownFolders: [catalog.folder],
    worker: true,
    signal: stop.signal,
    async onListening(url) {
      failed = (await indexAndSearch(catalog, url, { ...terminal, environment })) > 0;
      if (once) stop.abort();
      else printAddresses(terminal, url);
    },
  }).catch((error: unknown) => {
    if (!stop.signal.aborted) throw error;
  });
  return failed ? 1 : 0;
}

/** Quiet, unless asked to speak; with --once nobody needs to know the port, so that a busy one doesn't matter. */
function toEnvironment(given: Environment, once: boolean): Environment {
  return {
    ...given,
    LOG_LEVEL: given['LOG_LEVEL'] || 'error',

    ...(once && { PORT: '0' }),
  };
}

async function drawSample(terminal: Terminal, dataDir: string): Promise<string> {
  const { csv, products } = await createSampleCatalog(join(dataDir, 'sample'));
  print(terminal, `Drew ${products} sample products: ${relative(process.cwd(), csv) || csv}`);
  return csv;
}

/** Gives how many entries failed. */
async function indexAndSearch(catalog: Catalog, url: string, terminal: Terminal): Promise<number> {
  await using client = await openClient({ server: url, environment: terminal.environment });
  const startedAt = performance.now();
  const progress = await runIndex({ catalog, client, sharedFolders: [catalog.folder] }, terminal);
  printReport(terminal, progress, performance.now() - startedAt);
  const sample = await firstImage(catalog);
  if (sample === null || progress.completed === 0) return Math.max(1, progress.failures.length);

  const { productId, product } = sample;
  const about = [product.name, product.category].filter((part) => part !== undefined).join(', ');
  print(terminal, `\nMost like ${paint(terminal.stdout, 'bold', productId)} (${about}):\n`);
  const body = { product_id: productId, limit: 8 };
  printHits(terminal, await client.call(searchReply, '/search', { method: 'POST', body }));
  return progress.failures.length;
}

async function firstImage(catalog: Catalog): Promise<ProductImage | null> {
  for await (const entry of catalog.entries()) if (!isFault(entry)) return entry.image;
  return null;
}

function printAddresses(terminal: Terminal, url: string): void {
  print(
    terminal,
    `
Vitrine runs at ${paint(terminal.stdout, 'bold', url)} until Ctrl+C.
  API documentation  ${url}/docs
  Queue and workers  ${url}/queue/stats  ${url}/queue/workers

  Search with a photo of yours:
    curl -F image=@photo.jpg -F limit=5 ${url}/search
  Add a product:
    curl ${url}/queue/enqueue -H 'Content-Type: application/json' \\
      -d '{"product_id": "my-1", "image_url": "https://example.com/my-1.jpg", "name": "My first"}'`,
  );
}
