import { opendir } from 'node:fs/promises';
import { basename, dirname, extname, join, relative } from 'node:path';
import type { FeedEntry, FeedImage } from './feed.ts';
import { DEFAULT_IMAGE_ID } from './product-image.ts';

const EXTENSIONS = new Set(['.jpg', '.jpeg', '.png', '.webp', '.avif', '.gif', '.tif', '.tiff']);

/** True when the file's name is one of an image. */
export function isImageName(path: string): boolean {
  return EXTENSIONS.has(extname(path).toLowerCase());
}

/**
 * The images in a folder and all folders below it, in the order of their names. The product id is the file's
 * name without its ending, the category the name of the folder that it is in (none for the top folder).
 * Hidden files and folders are left out.
 */
export async function* readFolderFeed(folder: string): AsyncGenerator<FeedEntry> {
  for await (const path of walk(folder)) {
    const category = dirname(path) === folder ? undefined : basename(dirname(path));
    yield toFolderImage(relative(folder, path), path, category);
  }
}

/** One image file as a product. */
export function toFolderImage(where: string, path: string, category?: string): FeedImage {
  const productId = basename(path, extname(path));
  return {
    where,
    image: {
      productId,
      imageId: DEFAULT_IMAGE_ID,
      image: { kind: 'path', path },
      product: { name: productId, ...(category === undefined ? {} : { category }) },
    },
  };
}

async function* walk(folder: string): AsyncGenerator<string> {
  const entries = [];
  for await (const entry of await opendir(folder)) if (!entry.name.startsWith('.')) entries.push(entry);
  entries.sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const entry of entries) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* walk(path);
    else if (entry.isFile() && isImageName(path)) yield path;
  }
}
