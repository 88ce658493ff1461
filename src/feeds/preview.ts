import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { isAbsolute, join, relative, sep } from 'node:path';
import type { z } from '@hono/zod-openapi';
import { isFault, toFeedKind } from '../catalog/feed.ts';
import type { ImageRef, ProductImage } from '../catalog/product-image.ts';
import { openCatalog } from '../catalog/read-catalog.ts';
import { invalidRequest } from '../routing/faults.ts';
import type { previewReply } from './schemas.ts';

/** As many as one batch of jobs takes. */
const MAX_ENTRIES = 10_000;
const MAX_FAULTS = 1_000;

type Preview = z.input<typeof previewReply>;

/**
 * What a feed file holds, by the rules of `vitrine index`. Nothing is kept.
 * @throws VitrineError `invalid_request` for another kind of file, or one that can't be read as what it is
 */
export async function previewFeed(name: string, bytes: Uint8Array): Promise<Preview> {
  const kind = toFeedKind(name);
  if (kind === null) {
    throw invalidRequest([{ path: 'name', message: 'must end in .csv, .tsv, .txt, .jsonl or .ndjson' }]);
  }
  const folder = await mkdtemp(join(tmpdir(), 'vitrine-feed-'));
  try {
    const file = join(folder, `feed.${kind}`);
    await writeFile(file, bytes);
    return await readPreview(file, folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function readPreview(file: string, folder: string): Promise<Preview> {
  const entries: Preview['entries'] = [];
  const faults: Preview['faults'] = [];
  let totalFaults = 0;
  for await (const entry of (await openCatalog(file)).entries()) {
    if (isFault(entry)) {
      totalFaults += 1;
      if (faults.length < MAX_FAULTS) faults.push({ where: entry.where, detail: entry.fault });
    } else if (entries.length === MAX_ENTRIES) {
      return { entries, faults, total_faults: totalFaults, is_cut: true };
    } else {
      entries.push({ where: entry.where, ...toWireEntry(entry.image, folder) });
    }
  }
  return { entries, faults, total_faults: totalFaults, is_cut: false };
}

function toWireEntry({ productId, imageId, image, product }: ProductImage, folder: string) {
  const { tags, ...fields } = product;
  return {
    product_id: productId,
    image_id: imageId,
    ...fields,
    ...(tags !== undefined && { tags: [...tags] }),
    ...toWireImage(image, folder),
  };
}

function toWireImage(image: ImageRef, folder: string) {
  if (image.kind === 'url') return { image_url: image.url };
  if (image.kind === 'inline') return { image_base64: image.base64 };
  const path = relative(folder, image.path);
  const isBelow = !path.startsWith('..') && !isAbsolute(path);
  return { image_path: isBelow ? path.replaceAll(sep, '/') : image.path };
}
