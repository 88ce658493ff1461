import { createHash } from 'node:crypto';
import { mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { VitrineError } from '../../src/errors/vitrine-error.ts';
import { hashFile } from './model-folder.ts';

export interface DownloadOptions {
  readonly signal: AbortSignal;
  /** An attempt that receives nothing for this long is given up. */
  readonly stallMs: number;
  /** How many attempts in a row may receive nothing new before giving up. */
  readonly attempts: number;
  /** The wait after the first of them; it doubles with each further one. */
  readonly retryMs: number;
}

export interface FileToDownload {
  readonly url: string;
  /** Where the complete file goes. */
  readonly path: string;
  /** Folder for parts of files. A later download continues with what it finds there. */
  readonly parts: string;
  /** Hex SHA-256 of its content, where it is known; otherwise the one that the hub announces is checked. */
  readonly sha256: string | undefined;
  /** Called with the bytes on the disk, and the file's length where it is known. */
  onBytes?(bytes: number, totalBytes: number | undefined): void;
}

export interface DownloadedFile {
  readonly bytes: number;
  readonly sha256: string;
}

/** A failure that another attempt may not have. Its message is the beginning of a sentence. */
class TransientFailure extends Error {}

/** Address of a file by the hub's own rule, which its mirrors share. */
export function toFileUrl(hubUrl: string, hubId: string, revision: string, path: string): string {
  const encode = (text: string) => text.split('/').map(encodeURIComponent).join('/');
  return `${hubUrl.replace(/\/+$/, '')}/${encode(hubId)}/resolve/${encodeURIComponent(revision)}/${encode(path)}`;
}

/**
 * The commit that the revision in a file's address stands for now; undefined when a mirror doesn't say.
 * @throws VitrineError `model_unavailable`; the signal's reason when it aborts
 */
export async function fetchCommit(url: string, options: DownloadOptions): Promise<string | undefined> {
  const { commit } = await withRetry(url, options, (signal) => fetchFileInfo(url, signal));
  return commit;
}

/**
 * Downloads a file, continues where an earlier attempt or process stopped, and checks the result by its SHA-256, or by
 * its length where no SHA-256 is known.
 * @throws VitrineError `model_unavailable`; the signal's reason when it aborts, and what has arrived is kept
 */
export async function downloadFile(file: FileToDownload, options: DownloadOptions): Promise<DownloadedFile> {
  await mkdir(file.parts, { recursive: true });
  await mkdir(dirname(file.path), { recursive: true });
  return withRetry(file.url, options, async (signal, onReceived) => {
    const info = await fetchFileInfo(file.url, signal);
    const sha256 = file.sha256 ?? info.sha256;
    // Named by its content, so that a part is never continued with the bytes of another version.
    const part = join(file.parts, sha256 ?? toName(`${file.url} ${info.etag}`));
    if (sha256 === undefined && info.etag === undefined) await rm(part, { force: true });
    const offset = await toSize(part);
    let totalBytes = info.bytes;
    if (totalBytes === undefined || offset < totalBytes) {
      totalBytes = await fetchRest(file.url, part, offset, info.bytes, signal, (bytes, total) => {
        onReceived(bytes);
        file.onBytes?.(bytes, total);
      });
    }
    const found = await checkPart(part, offset, totalBytes, sha256, file);
    await rename(part, file.path);
    return found;
  });
}

/** Tries until an attempt succeeds, or `attempts` in a row have received nothing new. */
async function withRetry<T>(
  url: string,
  options: DownloadOptions,
  attempt: (signal: AbortSignal, onReceived: (bytes: number) => void) => Promise<T>,
): Promise<T> {
  let failures = 0;
  let furthest = 0;
  for (;;) {
    const stall = new AbortController();
    const timer = setTimeout(() => stall.abort(), options.stallMs);
    const onReceived = (bytes: number) => {
      timer.refresh();
      if (bytes <= furthest) return;
      furthest = bytes;
      failures = 0;
    };
    try {
      return await attempt(AbortSignal.any([options.signal, stall.signal]), onReceived);
    } catch (error) {
      options.signal.throwIfAborted();
      if (error instanceof VitrineError) throw error;
      if (isDiskError(error)) throw toDiskFailure(error);
      failures += 1;
      if (failures >= options.attempts) {
        const { host } = new URL(url);
        const what = stall.signal.aborted
          ? `${host} sent nothing for ${options.stallMs} ms`
          : error instanceof TransientFailure
            ? error.message
            : `${host} closed the connection in the middle of a file`;
        const often = failures === 1 ? '' : `, ${failures} times in a row`;
        throw new VitrineError('model_unavailable', `${what}${often}.`, {
          cause: error,
          suggestion: 'Try again: what has arrived is kept. Or copy the files into MODELS_DIR by hand.',
        });
      }
    } finally {
      clearTimeout(timer);
    }
    await delay(options.retryMs * 2 ** (failures - 1), undefined, { signal: options.signal });
  }
}

interface FileInfo {
  /** The commit that the revision stands for. */
  readonly commit: string | undefined;
  readonly bytes: number | undefined;
  /** Hex SHA-256, which the hub announces for large files. */
  readonly sha256: string | undefined;
  /** Strong ETag: it changes with the content. */
  readonly etag: string | undefined;
}

const MAX_REDIRECTS = 5;

/**
 * What the hub says about a file. It redirects large files to a store; the redirect itself says their length and
 * SHA-256 (`x-linked-size`, `x-linked-etag`, as huggingface_hub reads them).
 */
async function fetchFileInfo(url: string, signal: AbortSignal): Promise<FileInfo> {
  let address = url;
  let commit: string | null = null;
  for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
    const { status, headers } = await request(address, { method: 'HEAD', redirect: 'manual', signal });
    commit ??= headers.get('x-repo-commit');
    const location = headers.get('location');
    const isRedirect = status >= 300 && status < 400 && location !== null;
    if (isRedirect && !headers.has('x-linked-etag')) {
      address = new URL(location, address).href;
      continue;
    }
    if (!isRedirect && status !== 200) throw toFailure(status, url);
    const etag = headers.get('x-linked-etag') ?? headers.get('etag') ?? '';
    return {
      commit: commit !== null && /^[\da-f]{40}$/.test(commit) ? commit : undefined,
      bytes: toNumber(headers.get('x-linked-size')) ?? (isRedirect ? undefined : toLength(headers)),
      sha256: /^"?([\da-f]{64})"?$/.exec(etag)?.[1],
      etag: etag.startsWith('"') ? etag : undefined,
    };
  }
  throw new TransientFailure(`${new URL(url).host} redirects in circles`);
}

/** Appends to the part what it lacks. @returns the length of the whole file, where it is known */
async function fetchRest(
  url: string,
  part: string,
  offset: number,
  announcedBytes: number | undefined,
  signal: AbortSignal,
  onBytes: (bytes: number, totalBytes: number | undefined) => void,
): Promise<number | undefined> {
  const headers: Record<string, string> = offset > 0 ? { range: `bytes=${offset}-` } : {};
  const response = await request(url, { headers, signal });
  const range = /^bytes (?:(\d+)-\d+|\*)\/(\d+)$/.exec(response.headers.get('content-range') ?? '');
  const rangeTotal = toNumber(range?.[2]);
  const { status } = response;
  const isPage = response.headers.get('content-type')?.startsWith('text/html') === true;
  const isContinued = status === 206 && range?.[1] === `${offset}`;
  if (isPage || !(status === 200 || isContinued)) await response.body?.cancel();
  // Nothing comes after the part: it is complete, or it is wrong. The check that follows says which.
  if (status === 416 && offset > 0) return rangeTotal ?? 0;
  if (status !== 200 && status !== 206) throw toFailure(status, url);
  if (isPage) throw toFailure('with a web page', url);
  if (status === 206 && !isContinued) {
    await rm(part, { force: true });
    throw new TransientFailure(`${new URL(url).host} sent another range than it was asked for`);
  }
  const totalBytes = announcedBytes ?? (isContinued ? rangeTotal : toLength(response.headers));
  let bytes = isContinued ? offset : 0;
  await using file = await open(part, isContinued ? 'a' : 'w');
  // Each chunk is written before the next is read: what arrived before an interruption is kept.
  for await (const chunk of response.body ?? []) {
    await file.appendFile(chunk);
    bytes += chunk.byteLength;
    onBytes(bytes, totalBytes);
  }
  return totalBytes;
}

/** @throws TransientFailure when another attempt may help; VitrineError when the hub sent something else */
async function checkPart(
  part: string,
  offset: number,
  totalBytes: number | undefined,
  expected: string | undefined,
  { path }: FileToDownload,
): Promise<DownloadedFile> {
  const bytes = await toSize(part);
  const sha256 = await hashFile(part);
  const isRight = expected !== undefined ? sha256 === expected : bytes === (totalBytes ?? bytes);
  if (isRight) return { bytes, sha256 };
  const name = path.split('/').slice(-2).join('/');
  if (totalBytes !== undefined && bytes < totalBytes) throw new TransientFailure(`${name} ended early`);
  await rm(part, { force: true });
  if (offset > 0) throw new TransientFailure(`${name} does not fit the part that was here`);
  const difference =
    expected === undefined
      ? `it has ${bytes} bytes, not ${totalBytes}`
      : `its SHA-256 is ${sha256}, not ${expected}`;
  throw new VitrineError('model_unavailable', `What was sent as ${name} is another file: ${difference}.`, {
    suggestion: 'Try again. If it happens again, MODEL_HUB_URL serves something else than the model.',
  });
}

async function request(url: string, init: RequestInit): Promise<Response> {
  const headers = { 'accept-encoding': 'identity', 'user-agent': 'Vitrine', ...init.headers };
  try {
    return await fetch(url, { ...init, headers });
  } catch (cause) {
    throw new TransientFailure(`${new URL(url).host} could not be reached`, { cause });
  }
}

function toFailure(answer: number | string, url: string): Error {
  const { host, pathname } = new URL(url);
  if (typeof answer === 'number' && (answer === 408 || answer === 429 || answer >= 500))
    return new TransientFailure(`${host} answered ${answer}`);
  return new VitrineError('model_unavailable', `${host} answered ${answer} for ${pathname}.`, {
    suggestion: 'Check MODEL_HUB_URL, or copy the files into MODELS_DIR by hand.',
  });
}

const toName = (key: string) => createHash('sha256').update(key).digest('hex');

/** Length of an answer's body as it will be written. */
const toLength = (headers: Headers) =>
  headers.has('content-encoding') ? undefined : toNumber(headers.get('content-length'));

const toNumber = (text: string | null | undefined) =>
  text != null && /^\d+$/.test(text) ? Number(text) : undefined;

const toSize = (path: string) =>
  stat(path).then(
    ({ size }) => size,
    () => 0,
  );

type DiskError = Error & { readonly code: string; readonly path?: string };

function isDiskError(error: unknown): error is DiskError {
  const codes = ['ENOSPC', 'EACCES', 'EPERM', 'EROFS', 'EDQUOT'];
  return error instanceof Error && 'code' in error && codes.includes(String(error.code));
}

function toDiskFailure(error: DiskError): VitrineError {
  return new VitrineError(
    'model_unavailable',
    `${error.path ?? 'A file'} could not be written: ${error.code}.`,
    {
      cause: error,
      suggestion: 'Free some space, or set MODELS_DIR to a folder that can be written to.',
    },
  );
}
