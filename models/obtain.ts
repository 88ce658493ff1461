import type { Config } from '../src/config/config.ts';
import { toVitrineError, VitrineError } from '../src/errors/vitrine-error.ts';
import type { ModelIdentity } from '../src/vectors/port.ts';
import { hasAllFiles, type PullProgress, pullModel } from './pull.ts';
import { findModel, type RegisteredModel } from './registry.ts';
import { BUILTIN_ID, toModelFolder } from './resolve.ts';

/** MODEL=auto: the best model that is at hand. */
export const AUTO_ID = 'auto';
/** What `auto` prefers: any kind of product, and words. */
const PREFERRED_ID = 'clip-vit-base-patch32';
/** How long `auto` lets a start wait for it. */
const AUTO_WAIT_MS = 8_000;

export type ModelSettings = Pick<Config['model'], 'id' | 'dir' | 'hubUrl' | 'offline'>;

/**
 * The id that MODEL stands for. `auto` is the model of the collection, where there is one already; else CLIP,
 * when its weights are here or arrive within a few seconds; else the built-in model.
 *
 * @param collectionModel of which model the collection's vectors are; asked for `auto` only
 * @param tell gets one line that says what was chosen and why
 */
export async function chooseModel(
  settings: ModelSettings,
  collectionModel: () => Promise<ModelIdentity | null>,
  signal: AbortSignal,
  tell: (line: string) => void,
): Promise<string> {
  if (settings.id !== AUTO_ID) return settings.id;
  const stored = await collectionModel();
  if (stored !== null) {
    tell(`MODEL=auto: ${stored.id}, of which the collection's vectors are.`);
    return stored.id;
  }
  const preferred = findModel(PREFERRED_ID);
  const failure = preferred === undefined ? 'unknown' : await tryModel(preferred, settings, signal);
  if (failure === null) {
    tell(`MODEL=auto: ${PREFERRED_ID}; its weights are in ${settings.dir}.`);
    return PREFERRED_ID;
  }
  tell(
    `MODEL=auto: the built-in model, since ${failure} For CLIP: npm run vitrine -- models pull ${PREFERRED_ID}`,
  );
  return BUILTIN_ID;
}

/** Null when the model is there; else the reason why it isn't, as the end of a sentence. */
async function tryModel(
  model: RegisteredModel,
  settings: ModelSettings,
  signal: AbortSignal,
): Promise<string | null> {
  if (hasAllFiles(model, toModelFolder(model.id, settings.dir))) return null;
  if (settings.offline) return 'CLIP is not here and MODELS_OFFLINE=true.';
  try {
    await pullModel(model, { ...settings, signal, totalMs: AUTO_WAIT_MS, attempts: 1 });
    return null;
  } catch (error) {
    signal.throwIfAborted();
    return `CLIP could not be had at once: ${toVitrineError(error).message}`;
  }
}

/**
 * Brings the weights of a registered model where they are missing; of any other there is nothing to bring.
 * @throws VitrineError `model_unavailable`: with MODELS_OFFLINE it says which command brings them
 */
export async function ensureModel(
  id: string,
  settings: ModelSettings,
  signal: AbortSignal,
  onProgress?: (progress: PullProgress) => void,
): Promise<void> {
  const model = findModel(id);
  if (model === undefined || hasAllFiles(model, toModelFolder(id, settings.dir))) return;
  if (settings.offline) {
    throw new VitrineError('model_unavailable', `The weights of ${id} are not in ${settings.dir}.`, {
      suggestion: `MODELS_OFFLINE=true forbids to download them. Where the network may be used: npm run vitrine -- models pull ${id}`,
    });
  }
  await pullModel(model, { ...settings, signal, ...(onProgress !== undefined && { onProgress }) });
}
