import { existsSync } from 'node:fs';
import { mkdir, rename, rm, stat, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { Agent } from 'undici';
import { VitrineError } from '../src/errors/vitrine-error.ts';
import { type Downloaded, downloadFile } from './download.ts';
import { hashFile } from './fingerprint.ts';
import { toFileUrl } from './hub.ts';
import { lockFile } from './lock.ts';
import type { RegisteredModel } from './registry.ts';
import { toModelFolder } from './resolve.ts';

/** Written into a pulled model's folder: what is in it, and from where it came. */
export const MANIFEST_NAME = 'vitrine-files.json';

export interface Manifest {
  readonly hubId: string;
  readonly revision: string;
  /** The commit that the revision stood for, where the hub said it. */
  readonly commit?: string;
  readonly files: Readonly<Record<string, { readonly bytes: number; readonly sha256: string }>>;
}

export interface PullOptions {
  /** MODELS_DIR */
  readonly dir: string;
  /** MODEL_HUB_URL */
  readonly hubUrl: string;
  readonly signal: AbortSignal;
  /** For everything together; what has arrived by then is kept for the next time. */
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

/**
 * Brings a registered model's files into `dir`, or gives at once the folder where they are. The folder appears
 * whole or not at all; what broke off is gone on with the next time. Processes that pull the same model at once
 * wait for the first.
 *
 * @returns the model's folder
 * @throws VitrineError `model_unavailable`; the signal's reason when it aborts
 */
export async function pullModel(model: RegisteredModel, options: PullOptions): Promise<string> {
  const folder = toModelFolder(model.id, options.dir);
  if (hasAllFiles(model, folder)) return folder;
  const deadline = AbortSignal.timeout(options.totalMs ?? 3_600_000);
  const signal = AbortSignal.any([options.signal, deadline]);
  const partial = join(options.dir, '.partial', model.id);
  try {
    await mkdir(partial, { recursive: true });
    using _lock = await lockFile(`${partial}.lock`, signal);
    if (hasAllFiles(model, folder)) return folder;
    const manifest = await downloadAll(model, partial, signal, options);
    await writeFile(join(partial, MANIFEST_NAME), `${JSON.stringify(manifest, null, 2)}\n`);
    await replaceFolder(partial, folder);
    return folder;
  } catch (error) {
    options.signal.throwIfAborted();
    if (deadline.aborted) {
      throw new VitrineError(
        'model_unavailable',
        `${model.id} did not arrive within ${options.totalMs} ms.`,
        {
          suggestion: `What has arrived is kept. Go on with: npm run vitrine -- models pull ${model.id}`,
        },
      );
    }
    if (error instanceof VitrineError) throw error;
    throw new VitrineError('model_unavailable', `${model.id} could not be stored in ${options.dir}.`, {
      cause: error,
      suggestion: 'Set MODELS_DIR to a folder that can be written to.',
    });
  }
}

/** True when every file that the registry names is there; `verifyModel` looks into them. */
export function hasAllFiles(model: RegisteredModel, folder: string): boolean {
  return model.files.every(({ path }) => existsSync(join(folder, path)));
}

async function downloadAll(
  model: RegisteredModel,
  partial: string,
  signal: AbortSignal,
  options: PullOptions,
): Promise<Manifest> {
  // Idle times are watched by downloadFile, which refreshes its own timer with every byte.
  const agent = new Agent({ connections: 2, headersTimeout: 0, bodyTimeout: 0 });
  const files: Record<string, { bytes: number; sha256: string }> = {};
  let commit: string | undefined;
  try {
    for (const { path, sha256 } of model.files) {
      const target = join(partial, path);
      const done: Downloaded =
        (await readComplete(target, sha256)) ??
        (await downloadFile(toFileUrl(options.hubUrl, model.hubId, model.revision, path), target, sha256, {
          agent,
          signal,
          stallMs: options.stallMs ?? 30_000,
          attempts: options.attempts ?? 5,
          retryMs: options.retryMs ?? 1_000,
          onBytes: (bytes, totalBytes) => options.onProgress?.({ path, bytes, totalBytes }),
        }));
      files[path] = { bytes: done.bytes, sha256: done.sha256 };
      commit ??= done.commit;
    }
  } finally {
    await agent.destroy();
  }
  return { hubId: model.hubId, revision: model.revision, ...(commit !== undefined && { commit }), files };
}

/** A file that an earlier run has brought and checked: its note is gone. */
async function readComplete(path: string, sha256: string | undefined): Promise<Downloaded | null> {
  if (!existsSync(path) || existsSync(`${path}.part`)) return null;
  const found = await hashFile(path);
  if (sha256 !== undefined && found !== sha256) return null;
  return { bytes: (await stat(path)).size, sha256: found, commit: undefined };
}

/** A folder that was there, incomplete, makes room. */
async function replaceFolder(from: string, to: string): Promise<void> {
  await mkdir(dirname(to), { recursive: true });
  const old = `${from}.old`;
  await rm(old, { recursive: true, force: true });
  if (existsSync(to)) await rename(to, old);
  await rename(from, to);
  await rm(old, { recursive: true, force: true });
}
