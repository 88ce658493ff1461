import { mkdir, open, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { dirname } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Agent } from 'undici';
import { VitrineError } from '../src/errors/vitrine-error.ts';
import { hashFile } from './fingerprint.ts';
import { openHubFile, PassingFailure, type Resume } from './hub.ts';

export interface DownloadOptions {
  readonly agent: Agent;
  readonly signal: AbortSignal;
  /** An attempt without a byte for so long is given up. */
  readonly stallMs: number;
  /** Tries in a row that brought nothing new, before giving up. */
  readonly attempts: number;
  /** Wait after the first of them; each further one waits twice as long. */
  readonly retryMs: number;
  /** Called with the bytes that are on the disk, and the file's length where it is known. */
  onBytes(done: number, total: number | undefined): void;
}

export interface Downloaded {
  readonly bytes: number;
  readonly sha256: string;
  readonly commit: string | undefined;
}

/** What is known of a partial file, kept beside it for the next run. */
interface Known {
  readonly commit: string | undefined;
  readonly etag: string | undefined;
  readonly bytes: number | undefined;
  readonly sha256: string | undefined;
}

/**
 * Brings a file, going on where an earlier try, or an earlier process, broke off, and checks its length and its
 * SHA-256: the one given, else the one that the hub announces.
 * @throws VitrineError `model_unavailable`; the signal's reason when it aborts, the partial file staying
 */
export async function downloadFile(
  url: string,
  path: string,
  sha256: string | undefined,
  options: DownloadOptions,
): Promise<Downloaded> {
  await mkdir(dirname(path), { recursive: true });
  let failures = 0;
  for (;;) {
    const before = await toSize(path);
    try {
      return await attempt(url, path, sha256, options);
    } catch (error) {
      options.signal.throwIfAborted();
      if (!(error instanceof PassingFailure)) throw error;
      failures = (await toSize(path)) > before ? 1 : failures + 1;
      if (failures >= options.attempts) {
        const often = failures === 1 ? '' : `, ${failures} times in a row`;
        throw new VitrineError('model_unavailable', `${error.message}${often}.`, {
          cause: error,
          suggestion: 'Try again: what has arrived is kept. Or copy the files into MODELS_DIR by hand.',
        });
      }
      await delay(options.retryMs * 2 ** (failures - 1), undefined, { signal: options.signal });
    }
  }
}

async function attempt(
  url: string,
  path: string,
  expected: string | undefined,
  options: DownloadOptions,
): Promise<Downloaded> {
  const stall = new AbortController();
  const timer = setTimeout(() => stall.abort(), options.stallMs);
  const signal = AbortSignal.any([options.signal, stall.signal]);
  try {
    const { resume, known } = await readPartial(path);
    if (resume !== null && resume.offset === known.bytes) return await check(path, known, expected);
    const answer = await openHubFile(url, resume, options.agent, signal);
    // 200 means that the file has changed, or that the server can't go on in the middle.
    const isResumed = resume !== null && answer.offset === resume.offset && answer.offset > 0;
    const now: Known = isResumed
      ? { ...known, sha256: answer.sha256 ?? known.sha256, bytes: answer.bytes ?? known.bytes }
      : { etag: answer.etag, bytes: answer.bytes, sha256: answer.sha256, commit: answer.commit };
    // In this order, so that bytes never stand beside the note of other bytes, whenever the process ends.
    if (!isResumed) await discardPartial(path);
    await writeFile(toNotePath(path), JSON.stringify(now));
    let done = answer.offset;
    await using file = await open(path, 'a');
    // Each chunk is on the disk before the next is asked for: what arrived before a break is kept.
    for await (const chunk of answer.body as AsyncIterable<Uint8Array>) {
      timer.refresh();
      await file.write(chunk);
      done += chunk.byteLength;
      options.onBytes(done, now.bytes);
    }
    return await check(path, now, expected);
  } catch (error) {
    if (stall.signal.aborted)
      throw new PassingFailure(`${new URL(url).host} sent nothing for ${options.stallMs} ms`);
    if (error instanceof VitrineError || error instanceof PassingFailure) throw error;
    if (isDiskError(error)) {
      throw new VitrineError('model_unavailable', `${path} could not be written: ${error.code}.`, {
        cause: error,
        suggestion: 'Make room, or set MODELS_DIR to a folder that can be written to.',
      });
    }
    throw new PassingFailure(`${new URL(url).host} broke off`, { cause: error });
  } finally {
    clearTimeout(timer);
  }
}

async function check(path: string, known: Known, expected: string | undefined): Promise<Downloaded> {
  const bytes = await toSize(path);
  if (known.bytes !== undefined && bytes < known.bytes) throw new PassingFailure('The file ended early');
  const sha256 = await hashFile(path);
  const wanted = expected ?? known.sha256;
  if ((known.bytes !== undefined && bytes > known.bytes) || (wanted !== undefined && sha256 !== wanted)) {
    // Nothing of it can be trusted: the next try begins anew.
    await discardPartial(path);
    throw new VitrineError(
      'model_unavailable',
      `What was sent as ${path.split('/').slice(-2).join('/')} is another file: its SHA-256 is ${sha256}, not ${wanted}.`,
      { suggestion: 'Try again; if it stays, MODEL_HUB_URL serves something else than the model.' },
    );
  }
  await rm(toNotePath(path), { force: true });
  return { bytes, sha256, commit: known.commit };
}

/** Removes a partial file and what is known of it. */
async function discardPartial(path: string): Promise<void> {
  await rm(path, { force: true });
  await rm(toNotePath(path), { force: true });
}

async function readPartial(path: string): Promise<{ resume: Resume | null; known: Known }> {
  const offset = await toSize(path);
  const known = await readFile(toNotePath(path), 'utf8').then(
    (text) => JSON.parse(text) as Known,
    () => ({ etag: undefined, bytes: undefined, sha256: undefined, commit: undefined }),
  );
  return { resume: offset > 0 && known.etag !== undefined ? { offset, etag: known.etag } : null, known };
}

const toNotePath = (path: string) => `${path}.part`;

const toSize = (path: string) =>
  stat(path).then(
    ({ size }) => size,
    () => 0,
  );

function isDiskError(error: unknown): error is NodeJS.ErrnoException {
  const code = error instanceof Error ? (error as NodeJS.ErrnoException).code : undefined;
  return code !== undefined && ['ENOSPC', 'EACCES', 'EPERM', 'EROFS', 'EDQUOT'].includes(code);
}
