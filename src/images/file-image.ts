import { constants, type Stats } from 'node:fs';
import { type FileHandle, open, readlink, realpath, stat } from 'node:fs/promises';
import { isAbsolute, relative, resolve, sep } from 'node:path';
import { VitrineError } from '../errors/vitrine-error.ts';
import { tooLarge } from './read-limited.ts';

/** Where files may be read from. */
export interface ImageRoots {
  /**
   * The bytes of a file under one of the roots; a relative path is looked for in each root in turn.
   * @throws VitrineError `image_path_forbidden`, `image_not_found`, `image_access_denied`, `image_too_large`
   */
  read(path: string, signal: AbortSignal): Promise<Uint8Array>;
}

/** Between two looks at whether the read is still wanted. */
const READ_BYTES = 4_000_000;
/** Where the roots really are is looked up again after this. */
const ROOTS_FRESH_MS = 1_000;

/** @param roots absolute folders; none: no file may be read */
export function createImageRoots(roots: readonly string[], maxBytes: number): ImageRoots {
  let realRoots: Promise<readonly string[]> | undefined;
  let freshUntil = 0;
  const findRealRoots = () => {
    if (realRoots === undefined || performance.now() > freshUntil) {
      freshUntil = performance.now() + ROOTS_FRESH_MS;
      realRoots = Promise.all(roots.map((root) => realpath(root).catch(() => root)));
    }
    return realRoots;
  };
  return {
    async read(path, signal) {
      if (roots.length === 0) {
        throw forbidden(
          'No folder is open to image paths.',
          'Name the folders of the images in IMAGE_ROOTS.',
        );
      }
      if (path.includes('\0') || path.split(/[/\\]/).includes('..')) {
        throw forbidden('The image path may not contain "..".');
      }
      const real = await findFile(path, roots, await findRealRoots());
      return readRegularFile(real, await findRealRoots(), maxBytes, signal);
    },
  };
}

/** The real path, with all symbolic links resolved, of a file that is under a root now. */
async function findFile(
  path: string,
  roots: readonly string[],
  realRoots: readonly string[],
): Promise<string> {
  const candidates = isAbsolute(path)
    ? isInsideAny([...roots, ...realRoots], path)
      ? [path]
      : []
    : roots.map((root) => resolve(root, path));
  // Nothing outside the roots is touched: the answer doesn't tell what exists there.
  if (candidates.length === 0) throw forbidden('The image path is outside the folders of IMAGE_ROOTS.');
  for (const candidate of candidates) {
    const real = await realpath(candidate).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'EACCES' || error.code === 'EPERM') throw accessDenied(error);
      return null;
    });
    if (real === null) continue;
    if (isInsideAny(realRoots, real)) return real;
    throw linkOutside();
  }
  throw new VitrineError('image_not_found', 'There is no file at the image path.');
}

async function readRegularFile(
  path: string,
  realRoots: readonly string[],
  maxBytes: number,
  signal: AbortSignal,
): Promise<Uint8Array> {
  // Opening a device can do things by itself: look first.
  if (!(await statFile(path)).isFile()) throw notAFile();
  // Not following a link, not waiting for a FIFO's writer: what was looked at may have been replaced.
  const flags = constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0) | (constants.O_NONBLOCK ?? 0);
  const file = await open(path, flags).catch((error: NodeJS.ErrnoException) => {
    throw toFileError(error);
  });
  try {
    const opened = await file.stat();
    if (!opened.isFile()) throw notAFile();
    // A folder on the way may have become a link since: what counts is where the file is that was really opened.
    if (!isInsideAny(realRoots, await readOpenedPath(file, path, opened))) throw linkOutside();
    if (opened.size > maxBytes) throw tooLarge(maxBytes);
    return await readWhole(file, opened.size, maxBytes, signal);
  } finally {
    await file.close();
  }
}

/** All bytes, into one buffer of the size that the file had when it was opened; it may grow meanwhile. */
async function readWhole(
  file: FileHandle,
  size: number,
  maxBytes: number,
  signal: AbortSignal,
): Promise<Uint8Array> {
  let bytes = Buffer.allocUnsafeSlow(size + 1);
  let length = 0;
  for (;;) {
    signal.throwIfAborted();
    const asked = Math.min(READ_BYTES, bytes.length - length);
    const { bytesRead } = await file.read(bytes, length, asked);
    if (bytesRead === 0) return bytes.subarray(0, length);
    length += bytesRead;
    // More than the file had was asked for, and did not come: this is its end.
    if (length === size && bytesRead < asked) return bytes.subarray(0, length);
    if (length > maxBytes) throw tooLarge(maxBytes);
    if (length === bytes.length) bytes = Buffer.concat([bytes], 2 * length);
  }
}

/** The real path of an open file. Where the system doesn't say it, the path must still lead to that file. */
async function readOpenedPath(file: FileHandle, path: string, opened: Stats): Promise<string> {
  const said = await readlink(`/proc/self/fd/${file.fd}`).catch(() => null);
  if (said !== null) return said;
  const real = await realpath(path).catch(() => '');
  const now = await statFile(real);
  if (now.dev !== opened.dev || now.ino !== opened.ino) throw linkOutside();
  return real;
}

async function statFile(path: string) {
  return stat(path).catch((error: NodeJS.ErrnoException) => {
    throw toFileError(error);
  });
}

function toFileError(error: NodeJS.ErrnoException): VitrineError {
  if (error.code === 'EACCES' || error.code === 'EPERM') return accessDenied(error);
  if (error.code === 'ENOENT' || error.code === 'ELOOP' || error.code === 'ENOTDIR') {
    return new VitrineError('image_not_found', 'There is no file at the image path.', { cause: error });
  }
  return new VitrineError('image_fetch_failed', 'The image file could not be opened.', { cause: error });
}

function isInside(root: string, path: string): boolean {
  const way = relative(root, path);
  return way !== '' && way !== '..' && !way.startsWith(`..${sep}`) && !isAbsolute(way);
}

function isInsideAny(roots: readonly string[], path: string): boolean {
  return roots.some((root) => isInside(root, path));
}

function linkOutside(): VitrineError {
  return forbidden('The image path is a link out of the folders of IMAGE_ROOTS.');
}

function forbidden(detail: string, suggestion?: string): VitrineError {
  return new VitrineError('image_path_forbidden', detail, suggestion === undefined ? {} : { suggestion });
}

function notAFile(): VitrineError {
  return forbidden('The image path is not a regular file.');
}

function accessDenied(cause: unknown): VitrineError {
  return new VitrineError('image_access_denied', 'The image file may not be read by this process.', {
    cause,
    suggestion: "Make the file and its folders readable for the worker's user.",
  });
}
