import { existsSync } from 'node:fs';
import { readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { VitrineError } from '../../src/errors/vitrine-error.ts';
import { BUILTIN, findModel, MODELS } from '../registry.ts';
import { hashFile, resolveModel, toModelFolder } from './model-folder.ts';
import { hasAllFiles, readManifest, toPartialFolder } from './pull-model.ts';

export interface ListedModel {
  readonly id: string;
  /** `shipped` with Vitrine, `here` in MODELS_DIR, or `missing`: it can be downloaded. */
  readonly state: 'shipped' | 'here' | 'missing';
  readonly dimension: number | undefined;
  readonly hasText: boolean;
  readonly downloadMegabytes: number | undefined;
  readonly choose: string;
  readonly licence: string;
}

/** The built-in model, the registered ones, and the other folders of MODELS_DIR. */
export async function listModels(dir: string): Promise<readonly ListedModel[]> {
  const registered = MODELS.map((model): ListedModel => {
    const state = hasAllFiles(model, toModelFolder(model.id, dir)) ? 'here' : 'missing';
    const { id, dimension, text, downloadMegabytes, choose, licence } = model;
    return { id, state, dimension, hasText: text !== null, downloadMegabytes, choose, licence };
  });
  const entries = await readdir(dir, { withFileTypes: true }).catch(() => []);
  const own = entries.filter(
    ({ name }) => findModel(name) === undefined && existsSync(join(dir, name, 'config.json')),
  );
  return [
    await describe(BUILTIN.id, dir, 'shipped', BUILTIN.choose, BUILTIN.licence),
    ...registered,
    ...(await Promise.all(own.map(({ name }) => describe(name, dir, 'here', 'Your own.', 'its own')))),
  ];
}

async function describe(
  id: string,
  dir: string,
  state: ListedModel['state'],
  choose: string,
  licence: string,
): Promise<ListedModel> {
  const model = await resolveModel(id, { dir }).catch(() => null);
  return {
    id,
    state,
    dimension: model?.dimension,
    hasText: model !== null && model.text !== null,
    downloadMegabytes: undefined,
    choose: model === null ? 'Not usable: `vitrine models verify` says why.' : choose,
    licence,
  };
}

/**
 * Reads every file of a model, compares it with what was published or downloaded, loads the model and embeds an image.
 * @returns a line for each thing that was checked
 * @throws VitrineError `model_unavailable`, `embedding_invalid`
 */
export async function verifyModel(id: string, dir: string): Promise<readonly string[]> {
  const folder = toModelFolder(id, dir);
  const manifest = await readManifest(folder);
  const published = findModel(id)?.files ?? [];
  const paths = new Set([...published.map(({ path }) => path), ...Object.keys(manifest?.files ?? {})]);
  const lines: string[] = [];
  if (manifest !== null)
    lines.push(`downloaded from ${manifest.hubId}, commit ${manifest.commit ?? 'unknown'}`);
  for (const path of paths) {
    const expected = published.find((file) => file.path === path)?.sha256 ?? manifest?.files[path]?.sha256;
    const found = await hashFile(join(folder, path)).catch(() => null);
    if (found === null) throw toDamaged(id, `${path} is missing or can't be read.`);
    if (expected !== undefined && found !== expected)
      throw toDamaged(id, `${path} is not as it was published.`);
    lines.push(
      `${path}: ${expected === undefined ? 'there, its SHA-256 is not known' : 'SHA-256 as published'}`,
    );
  }
  const definition = await resolveModel(id, { dir });
  // Loaded here only: listing models doesn't need it, and it takes half a second.
  const { loadModel } = await import('../embedding/transformers-model.ts');
  await using model = await loadModel(definition, { device: 'cpu', intraOpThreads: 1 });
  if (definition.text !== null) await model.embedTexts(['a product']);
  lines.push(
    `loaded: an image${definition.text === null ? '' : ' and words'} to ${definition.dimension} numbers`,
  );
  return lines;
}

/**
 * Deletes what was downloaded of a model.
 * @throws VitrineError `model_unavailable` when it isn't there, or was put there by a person
 */
export async function removeModel(id: string, dir: string): Promise<void> {
  if (id === BUILTIN.id)
    throw toRefusal('The built-in model is part of Vitrine.', 'Choose another with MODEL.');
  const folder = toModelFolder(id, dir);
  const partial = toPartialFolder(id, dir);
  if (existsSync(folder) && (await readManifest(folder)) === null) {
    throw toRefusal(`${folder} was not downloaded by Vitrine.`, 'Delete it by hand, if nobody needs it.');
  }
  if (!existsSync(folder) && !existsSync(partial))
    throw toRefusal(`There is no model ${id} in ${dir}.`, 'See `vitrine models list`.');
  for (const path of [folder, partial, `${partial}.lock`]) await rm(path, { recursive: true, force: true });
}

function toDamaged(id: string, detail: string): VitrineError {
  return new VitrineError('model_unavailable', `${id}: ${detail}`, {
    suggestion: `Download it again: npm run vitrine -- models remove ${id}, then models pull ${id}`,
  });
}

function toRefusal(detail: string, suggestion: string): VitrineError {
  return new VitrineError('model_unavailable', detail, { suggestion });
}
