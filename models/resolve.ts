import { existsSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { VitrineError } from '../src/errors/vitrine-error.ts';
import type { ModelDefinition } from './definition.ts';
import { hashFile, toFingerprint } from './fingerprint.ts';
import { readModelFolder, toOnnxPath } from './folder.ts';
import { BUILTIN, findModel, MODELS, type RegisteredModel } from './registry.ts';

export const BUILTIN_ID = BUILTIN.id;
const BUILTIN_FOLDER = resolve(import.meta.dirname, 'builtin');

/** A name, or a name with an owner as on the hub; nothing that could lead out of a folder. */
const ID_PATTERN = /^[A-Za-z0-9][\w.-]*(\/[A-Za-z0-9][\w.-]*)?$/;

export interface ResolveOptions {
  /** MODELS_DIR: a folder a model, named by its id. */
  readonly dir: string;
}

/**
 * Everything the embedder needs to know of a model. `builtin` ships with Vitrine. A registered id is described by
 * its entry, so that it is known before its weights are here (`ensureModel` brings them). Any other id is a folder
 * in MODELS_DIR, described by its own configuration files.
 * @throws VitrineError `model_unavailable` that says what to do
 */
export async function resolveModel(id: string, { dir }: ResolveOptions): Promise<ModelDefinition> {
  const folder = toModelFolder(id, dir);
  const registered = findModel(id);
  if (registered !== undefined) return toDefinition(registered, folder);
  if (!existsSync(join(folder, 'config.json'))) throw unknownModel(id, dir);
  const model = { id, folder, revision: 'local', ...(await readModelFolder(folder)) };
  const weights = await hashFile(join(folder, toOnnxPath(model.vision, model.dtype)));
  return { ...model, fingerprint: toFingerprint(model, weights) };
}

/** The folder in which a model is or would be. @throws VitrineError `model_unavailable` for an unusable id */
export function toModelFolder(id: string, dir: string): string {
  if (id === BUILTIN_ID) return BUILTIN_FOLDER;
  if (!ID_PATTERN.test(id) || id.includes('..')) {
    throw new VitrineError('model_unavailable', 'MODEL is not a usable model id.', {
      suggestion: `Use one of ${[BUILTIN_ID, ...MODELS.map((model) => model.id)].join(', ')}, or the name of a folder in MODELS_DIR.`,
    });
  }
  return resolve(dir, id);
}

function toDefinition(registered: RegisteredModel, folder: string): ModelDefinition {
  const { id, hubId, revision, dtype, dimension, preprocessing, vision, text, files } = registered;
  const model = { id, folder, revision, dtype, dimension, preprocessing, vision, text };
  const { sha256 } = files.find(({ path }) => path === toOnnxPath(vision, dtype)) ?? {};
  return { ...model, fingerprint: toFingerprint(model, sha256 ?? `${hubId}@${revision}`) };
}

function unknownModel(id: string, dir: string): VitrineError {
  const ids = [BUILTIN_ID, ...MODELS.map((model) => model.id)].join(', ');
  return new VitrineError(
    'model_unavailable',
    `There is no model ${id}: neither a known name nor a folder in ${dir}.`,
    {
      suggestion: `Use one of ${ids}, or put a folder with config.json, preprocessor_config.json and onnx/model.onnx into MODELS_DIR.`,
    },
  );
}
