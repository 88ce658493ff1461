import { join, relative } from 'node:path';
import { parseArgs } from 'node:util';
import { isFault } from '../src/catalog/feed.ts';
import type { ProductImage } from '../src/catalog/product-image.ts';
import { type Catalog, openCatalog } from '../src/catalog/read-catalog.ts';
import { connectServer } from '../src/cli/client.ts';
import { runIndex } from '../src/cli/index/index-command.ts';
import { printReport } from '../src/cli/index/report.ts';
import { printHits } from '../src/cli/search.ts';
import { paint, print, type Terminal } from '../src/cli/terminal.ts';
import { type Config, parseConfig } from '../src/config/config.ts';
import { type Environment, readEnvironment } from '../src/config/env.ts';
import { runProgram } from '../src/program.ts';
import { createSampleCatalog } from '../src/samples/sample-catalog.ts';
import type { searchReply } from '../src/search/schemas.ts';
import { serve } from '../src/serve.ts';

const USAGE = `Usage: npm run quickstart [-- [--catalog FILE.csv] [--once]]

Starts Vitrine, indexes a catalog, and shows the products that look most like one of them. Without a
catalog it draws one. Needs no Redis and no Qdrant; uses them when REDIS_URL or QDRANT_URL is set.

  --catalog FILE   index this .csv or .jsonl file, or folder of images
  --once           end after the search; otherwise the server runs until Ctrl+C`;

await runProgram(async (signal) => {
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
  return await quickstart(values.catalog, values.once, signal);
});

async function quickstart(path: string | undefined, once: boolean, signal: AbortSignal): Promise<number> {
  const environment = toEnvironment(readEnvironment(), once);
  const given = parseConfig(environment);
  const done = new AbortController();
  const terminal: Terminal = { environment, stdout: process.stdout, stderr: process.stderr, signal };
  const catalog = await openCatalog(path ?? (await drawSample(terminal, given.dataDir)));
  const roots = [...given.images.roots, catalog.folder];
  const config: Config = { ...given, images: { ...given.images, roots } };

  let failed = 0;
  await serve({
    config,
    worker: true,
    signal: AbortSignal.any([signal, done.signal]),
    async onListening(url) {
      failed = await indexAndSearch(catalog, url, terminal);
      if (once) done.abort();
      else printAddresses(terminal, url);
    },
  }).catch((error: unknown) => {
    if (!signal.aborted) throw error;
  });
  return failed > 0 ? 1 : 0;
}

/** Logs only errors, unless more is asked for. With --once nobody needs to know the port, so any free one is taken. */
function toEnvironment(given: Environment, once: boolean): Environment {
  return { ...given, LOG_LEVEL: given['LOG_LEVEL'] || 'error', ...(once && { PORT: '0' }) };
}

async function drawSample(terminal: Terminal, dataDir: string): Promise<string> {
  const { csv, products } = await createSampleCatalog(join(dataDir, 'sample'));
  print(terminal, `Drew ${products} sample products: ${relative(process.cwd(), csv) || csv}`);
  return csv;
}

/** Returns how many entries failed. */
async function indexAndSearch(catalog: Catalog, url: string, terminal: Terminal): Promise<number> {
  const client = await connectServer({ server: url }, terminal);
  const startedAt = performance.now();
  const progress = await runIndex({ catalog, client, sharedFolders: [catalog.folder] }, terminal);
  printReport(terminal, progress, (performance.now() - startedAt) / 1_000);
  const sample = await firstImage(catalog);
  if (sample === null || progress.completed === 0) return Math.max(1, progress.failures.length);

  const { productId, product } = sample;
  const about = [product.name, product.category].filter((part) => part !== undefined).join(', ');
  print(terminal, `\nMost like ${paint(terminal.stdout, 'bold', productId)} (${about}):\n`);
  const body = { product_id: productId, limit: 8 };
  printHits(terminal, await client.call<typeof searchReply>('/search', { method: 'POST', body }));
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
Vitrine runs at ${paint(terminal.stdout, 'bold', url)} until Ctrl+C: open it in a browser.
  API documentation  ${url}/docs

  Search with a photo of yours:
    curl -F image=@photo.jpg -F limit=5 ${url}/search
  Or with words:
    curl ${url}/search -H 'Content-Type: application/json' -d '{"text": "red mug"}'
  Add a product:
    curl ${url}/queue/enqueue -H 'Content-Type: application/json' \\
      -d '{"product_id": "my-1", "image_url": "https://example.com/my-1.jpg", "name": "My first"}'`,
  );
}
