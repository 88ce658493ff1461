import { hash, randomUUID } from 'node:crypto';
import { mkdir, readdir, readFile, rename, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { Clock } from '../observability/clock.ts';
import type { Logger } from '../observability/logger.ts';
import type { PointPayload } from '../vectors/port.ts';

/** What a thumbnail is of. Another content is another thumbnail. */
export type Pictured = Pick<PointPayload, 'productId' | 'imageId' | 'contentHash' | 'imageRef'>;

/**
 * Thumbnails in a folder that several processes share. Nothing fails when the folder can't be used: there are no
 * thumbnails in it then.
 */
export interface ThumbnailCache extends AsyncDisposable {
  read(image: Pictured): Promise<Uint8Array | null>;
  write(image: Pictured, thumbnail: Uint8Array): Promise<void>;
  remove(image: Pictured): Promise<void>;
  /** Removes those of other contents of the same image. */
  removeOthers(image: Pictured): Promise<void>;
  /** Removes all thumbnails of a product, or of one of its images. */
  removeProduct(productId: string, imageId?: string): Promise<void>;
}

export interface ThumbnailCacheSettings {
  readonly folder: string;
  /** 0: nothing is kept. */
  readonly maxBytes: number;
  /** Products of other collections may have the same ids. */
  readonly collection: string;
  readonly clock: Pick<Clock, 'now' | 'monotonic'>;
  readonly logger: Logger;
}

/** What a process may write before it looks at the size of the whole folder again, and once more while it does so. */
const SWEEP_AFTER_SHARE = 1 / 16;
/** What is left by a sweep: two processes that write all they may stay within the limit. */
const KEPT_SHARE = 3 / 4;
/** A file takes whole blocks of the disk. */
const BLOCK_BYTES = 4_096;
/** What a process that died has not finished writing. */
const ABANDONED_MS = 3_600_000;
const WARN_EVERY_MS = 60_000;

const TEMPORARY = '.tmp';
/** Of an image whose bytes came with its job: there is no source to make the thumbnail from again. */
const INLINE = '.inline.jpg';
/** What is named otherwise is someone else's, and is never touched. */
const SHARD_NAME = /^[0-9a-f]{2}$/;
const FILE_NAME = /^[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{32}(?:\.inline)?\.jpg(?:\.[0-9a-f-]{36}\.tmp)?$/;

export function createThumbnailCache(settings: ThumbnailCacheSettings): ThumbnailCache {
  const { folder, maxBytes, collection, clock, logger } = settings;
  const ending = new AbortController();
  let bytesUntilSweep = 0;
  let sweeping: Promise<void> | null = null;
  let warnFrom = Number.NEGATIVE_INFINITY;

  // The names of a product's files begin alike, so that all can be found without knowing its images.
  const toProductKey = (productId: string) => toKey(collection, productId);
  const toImageKey = (productId: string, imageId: string) =>
    `${toProductKey(productId)}-${toKey(imageId).slice(0, 16)}`;
  const toShard = (productId: string) => join(folder, toProductKey(productId).slice(0, 2));
  const toName = ({ productId, imageId, contentHash, imageRef }: Pictured) =>
    `${toImageKey(productId, imageId)}-${contentHash.slice(0, 32)}${imageRef === null ? INLINE : '.jpg'}`;
  const toFile = (image: Pictured) => join(toShard(image.productId), toName(image));

  function warn(error: unknown): void {
    if (clock.monotonic() < warnFrom) return;
    warnFrom = clock.monotonic() + WARN_EVERY_MS;
    logger.warn({ error, folder }, 'the folder of thumbnails cannot be used');
  }

  /** The outcome, or the fallback when the folder can't be used. */
  async function attempt<T>(fallback: T, work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') warn(error);
      return fallback;
    }
  }

  async function removeFiles(shard: string, isMeant: (name: string) => boolean): Promise<void> {
    const names = await attempt([], () => readdir(shard));
    for (const name of names.filter(isMeant)) await attempt(undefined, () => rm(join(shard, name)));
  }

  /** Removes what was not used for longest, until little enough is left. What can't be made again goes last. */
  async function sweep(): Promise<void> {
    const files = await listFiles(folder, ending.signal);
    const isTemporary = ({ path }: CachedFile) => path.endsWith(TEMPORARY);
    const abandoned = files.filter((file) => isTemporary(file) && file.usedAt < clock.now() - ABANDONED_MS);
    for (const { path } of abandoned) await attempt(undefined, () => rm(path));

    const kept = files.filter((file) => !isTemporary(file));
    const isInline = ({ path }: CachedFile) => Number(path.endsWith(INLINE));
    kept.sort((one, other) => isInline(one) - isInline(other) || one.usedAt - other.usedAt);
    let excess = kept.reduce((sum, { bytes }) => sum + bytes, 0) - maxBytes * KEPT_SHARE;
    for (const { path, bytes } of kept) {
      if (excess <= 0 || ending.signal.aborted) return;
      await attempt(undefined, () => rm(path));
      excess -= bytes;
    }
  }

  async function makeRoom(bytes: number): Promise<void> {
    bytesUntilSweep -= toDiskBytes(bytes);
    if (bytesUntilSweep > 0) return;
    // Only who writes faster than can be swept waits.
    await sweeping;
    if (bytesUntilSweep > 0) return;
    bytesUntilSweep = maxBytes * SWEEP_AFTER_SHARE;
    sweeping = attempt(undefined, sweep).finally(() => {
      sweeping = null;
    });
  }

  return {
    async read(image) {
      return attempt(null, async () => {
        const file = toFile(image);
        const bytes = await readFile(file);
        // What a machine that lost power had not written yet.
        if (bytes.length === 0) return null;
        const now = clock.now() / 1000;
        await attempt(undefined, () => utimes(file, now, now));
        return bytes;
      });
    },
    async write(image, thumbnail) {
      if (toDiskBytes(thumbnail.length) > maxBytes) return;
      await attempt(undefined, async () => {
        await makeRoom(thumbnail.length);
        const file = toFile(image);
        const temporary = `${file}.${randomUUID()}${TEMPORARY}`;
        await mkdir(toShard(image.productId), { recursive: true });
        try {
          await writeFile(temporary, thumbnail);
          // A reader of the file sees all of it or nothing.
          await rename(temporary, file);
        } catch (error) {
          await rm(temporary, { force: true });
          throw error;
        }
      });
    },
    remove: (image) => attempt(undefined, () => rm(toFile(image))),
    removeOthers({ productId, imageId, ...content }) {
      const prefix = `${toImageKey(productId, imageId)}-`;
      const current = toName({ productId, imageId, ...content });
      return removeFiles(toShard(productId), (name) => name.startsWith(prefix) && !name.startsWith(current));
    },
    removeProduct(productId, imageId) {
      const key = imageId === undefined ? toProductKey(productId) : toImageKey(productId, imageId);
      return removeFiles(toShard(productId), (name) => name.startsWith(`${key}-`));
    },
    async [Symbol.asyncDispose]() {
      ending.abort();
      await sweeping;
    },
  };
}

interface CachedFile {
  readonly path: string;
  readonly bytes: number;
  /** Epoch milliseconds. */
  readonly usedAt: number;
}

/** One after the other: a large folder must not keep the threads of the file system from others. */
async function listFiles(folder: string, signal: AbortSignal): Promise<CachedFile[]> {
  const files: CachedFile[] = [];
  const shards = (await readdir(folder)).filter((name) => SHARD_NAME.test(name));
  for (const shard of shards) {
    if (signal.aborted) break;
    const names = await readdir(join(folder, shard)).catch(() => []);
    for (const name of names.filter((each) => FILE_NAME.test(each))) {
      const path = join(folder, shard, name);
      const stats = await stat(path).catch(() => null);
      if (stats !== null) files.push({ path, bytes: toDiskBytes(stats.size), usedAt: stats.mtimeMs });
    }
  }
  return files;
}

const toDiskBytes = (bytes: number): number => Math.ceil(bytes / BLOCK_BYTES) * BLOCK_BYTES;

const toKey = (...parts: readonly string[]): string => hash('sha256', JSON.stringify(parts)).slice(0, 32);
