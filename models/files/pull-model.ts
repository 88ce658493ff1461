import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { setTimeout as delay } from 'node:timers/promises';
import { VitrineError } from '../../src/errors/vitrine-error.ts';
import type { RegisteredModel } from '../registry.ts';
import {
  type DownloadedFile,
  type DownloadOptions,
  downloadFile,
  fetchCommit,
  toFileUrl,
} from './download.ts';
import { hashFile, toModelFolder } from './model-folder.ts';

export interface PullOptions {
  /** MODELS_DIR */
  readonly dir: string;
  /** MODEL_HUB_URL */
  readonly hubUrl: string;
  readonly signal: AbortSignal;
  /** For everything together; what has arrived by then is kept for the next time. Default: an hour. */
  readonly totalMs?: number;
  readonly stallMs?: number;
  readonly attempts?: number;
  readonly retryMs?: number;
  onProgress?(progress: PullProgress): void;
}

export interface PullProgress {
  readonly path: string;
  readonly bytes: number;
  /** Undefined while the server doesn't say it. */
  readonly totalBytes: number | undefined;
}

/** Written into a downloaded model's folder: where its files came from, and what they are. */
export interface Manifest {
  readonly hubId: string;
  readonly revision: string;
  /** The commit that all files are from; missing when a mirror doesn't say it. */
  readonly commit?: string;
  readonly files: Readonly<Record<string, DownloadedFile>>;
}

const MANIFEST_NAME = 'vitrine-files.json';

/**
 * Downloads a registered model's files into `dir`, all from one commit, or returns at once when they are there. The
 * folder appears when it is complete; an interrupted download is continued the next time. Processes that want the same
 * model at the same time wait for the first.
 *
 * @returns the model's folder
 * @throws VitrineError `model_unavailable`; the signal's reason when it aborts
 */
export async function pullModel(model: RegisteredModel, options: PullOptions): Promise<string> {
  const { dir, totalMs = 3_600_000 } = options;
  const folder = toModelFolder(model.id, dir);
  if (hasAllFiles(model, folder)) return folder;
  const deadline = AbortSignal.timeout(totalMs);
  const signal = AbortSignal.any([options.signal, deadline]);
  const partial = toPartialFolder(model.id, dir);
  try {
    await mkdir(partial, { recursive: true });
    using _lock = await lockFile(`${partial}.lock`, signal);
    if (hasAllFiles(model, folder)) return folder;
    const complete = await downloadAll(model, partial, { ...options, signal });
    await replaceFolder(complete, folder);
    await rm(partial, { recursive: true, force: true });
    return folder;
  } catch (error) {
    options.signal.throwIfAborted();
    if (deadline.aborted) {
      const detail = `${model.id} did not arrive within ${totalMs / 1000} seconds.`;
      throw new VitrineError('model_unavailable', detail, {
        suggestion: `What has arrived is kept. Continue with: npm run vitrine -- models pull ${model.id}`,
      });
    }
    if (error instanceof VitrineError) throw error;
    throw new VitrineError('model_unavailable', `${model.id} could not be stored in ${dir}.`, {
      cause: error,
      suggestion: 'Set MODELS_DIR to a folder that can be written to.',
    });
  }
}

/** True when every file that the registry names is there. `verifyModel` checks what is in them. */
export function hasAllFiles(model: RegisteredModel, folder: string): boolean {
  return model.files.every(({ path }) => existsSync(join(folder, path)));
}

/** What was downloaded of a model that isn't complete. */
export function toPartialFolder(id: string, dir: string): string {
  return join(dir, '.partial', id);
}

/** The manifest of a downloaded model; null when the folder isn't one. */
export async function readManifest(folder: string): Promise<Manifest | null> {
  const text = await readFile(join(folder, MANIFEST_NAME), 'utf8').catch(() => null);
  return text === null ? null : (JSON.parse(text) as Manifest);
}

/** @returns the folder with all files of one commit, and their manifest */
async function downloadAll(model: RegisteredModel, partial: string, options: PullOptions): Promise<string> {
  const { hubId, revision } = model;
  const { hubUrl, signal, stallMs = 30_000, attempts = 5, retryMs = 1_000 } = options;
  const limits: DownloadOptions = { signal, stallMs, attempts, retryMs };
  const toUrl = (at: string, path: string) => toFileUrl(hubUrl, hubId, at, path);

  // A branch may move between two files, and between two workers that download.
  const commit = await fetchCommit(toUrl(revision, 'config.json'), limits);
  const folder = join(partial, commit ?? 'unknown-commit');
  const files: Record<string, DownloadedFile> = {};
  for (const { path, sha256 } of model.files) {
    files[path] =
      (await readComplete(join(folder, path), sha256)) ??
      (await downloadFile(
        {
          url: toUrl(commit ?? revision, path),
          path: join(folder, path),
          parts: join(partial, 'parts'),
          sha256,
          onBytes: (bytes, totalBytes) => options.onProgress?.({ path, bytes, totalBytes }),
        },
        limits,
      ));
  }
  const manifest: Manifest = { hubId, revision, ...(commit !== undefined && { commit }), files };
  await writeFile(join(folder, MANIFEST_NAME), `${JSON.stringify(manifest, null, 2)}\n`);
  return folder;
}

/** A file that an earlier run has downloaded and checked. */
async function readComplete(path: string, sha256: string | undefined): Promise<DownloadedFile | null> {
  if (!existsSync(path)) return null;
  const found = await hashFile(path);
  if (sha256 !== undefined && found !== sha256) return null;
  return { bytes: (await stat(path)).size, sha256: found };
}

/** Moves a folder to where an incomplete one may be. */
async function replaceFolder(from: string, to: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true });
  const old = `${from}.old`;
  await rm(old, { recursive: true, force: true });
  if (existsSync(to)) await rename(to, old);
  await rename(from, to);
}

const LOCK_POLL_MS = 200;

/**
 * Waits for a lock between processes and returns what releases it. Node has no file locks, but SQLite has. The
 * operating system releases them when their process ends, however it ends, so none is ever stale.
 * @throws the signal's reason when it aborts first
 */
async function lockFile(path: string, signal: AbortSignal): Promise<Disposable> {
  const database = new DatabaseSync(path, { timeout: 0 });
  try {
    for (;;) {
      signal.throwIfAborted();
      try {
        database.exec('BEGIN EXCLUSIVE');
        return { [Symbol.dispose]: () => database.close() };
      } catch (error) {
        const isLocked = error instanceof Error && 'errcode' in error && error.errcode === 5;
        if (!isLocked) throw error;
        await delay(LOCK_POLL_MS, undefined, { signal });
      }
    }
  } catch (error) {
    database.close();
    throw error;
  }
}
