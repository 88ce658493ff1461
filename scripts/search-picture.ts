// Draws docs/images/search.png: what the built-in model finds in the sample catalog, as the API answers it.
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp, { type OverlayOptions } from 'sharp';
import { openCatalog } from '../src/catalog/read-catalog.ts';
import type { Client } from '../src/cli/client.ts';
import { runIndex, withoutServer } from '../src/cli/index/index-command.ts';
import { parseConfig } from '../src/config/config.ts';
import { runProgram } from '../src/program.ts';
import { createSampleCatalog } from '../src/samples/sample-catalog.ts';
import type { searchReply } from '../src/search/schemas.ts';

const QUERIES = ['MUG-008', 'SHO-002', 'CHR-001', 'BAG-004'];
const HITS = 6;
const TILE = 128;
const GAP = 10;
const CAPTION = 22;
/** Between the query and its hits. */
const BREAK = 26;
const OUTPUT = join(import.meta.dirname, '..', 'docs', 'images', 'search.png');

await runProgram(async (signal) => {
  const dataDir = await mkdtemp(join(tmpdir(), 'vitrine-picture-'));
  try {
    const { csv } = await createSampleCatalog(join(dataDir, 'sample'));
    const catalog = await openCatalog(csv);
    const sharedFolders = [join(dataDir, 'sample')];
    const environment = { DATA_DIR: dataDir, MODEL: 'builtin', IMAGE_ROOTS: join(dataDir, 'sample') };
    const terminal = { environment, stdout: process.stdout, stderr: process.stderr, signal };
    const paths = new Map<string, string>();
    for await (const entry of catalog.entries()) {
      if ('image' in entry && entry.image.image.kind === 'path')
        paths.set(entry.image.productId, entry.image.image.path);
    }
    await withoutServer(parseConfig(environment), signal, async (client) => {
      await runIndex({ catalog, client, sharedFolders }, terminal);
      await draw(client, paths);
    });
    return 0;
  } finally {
    await rm(dataDir, { recursive: true });
  }
});

async function draw(client: Client, paths: ReadonlyMap<string, string>): Promise<void> {
  const tiles: OverlayOptions[] = [];
  for (const [row, query] of QUERIES.entries()) {
    const body = { product_id: query, limit: HITS };
    const { hits } = await client.call<typeof searchReply>('/search', { method: 'POST', body });
    const captions = [query, ...hits.map((hit) => hit.score.toFixed(3))];
    for (const [column, productId] of [query, ...hits.map((hit) => hit.product_id)].entries()) {
      const left = GAP + column * (TILE + GAP) + (column > 0 ? BREAK : 0);
      const top = GAP + row * (TILE + CAPTION + GAP);
      const input = await sharp(paths.get(productId)).resize(TILE).png().toBuffer();
      tiles.push({ input, left, top }, { input: toCaption(captions[column] ?? ''), left, top: top + TILE });
    }
  }
  const width = GAP + (HITS + 1) * (TILE + GAP) + BREAK;
  const height = GAP + QUERIES.length * (TILE + CAPTION + GAP);
  await mkdir(join(OUTPUT, '..'), { recursive: true });
  await sharp({ create: { width, height, channels: 3, background: '#ffffff' } })
    .composite(tiles)
    .png({ palette: true, colours: 128, effort: 10 })
    .toFile(OUTPUT);
}

function toCaption(text: string): Buffer {
  return Buffer.from(
    `<svg xmlns="http://www.w3.org/2000/svg" width="${TILE}" height="${CAPTION}"><text x="${TILE / 2}" y="16" text-anchor="middle" font-family="sans-serif" font-size="13" fill="#333">${text}</text></svg>`,
  );
}
