import { existsSync } from 'node:fs';
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { VitrineError } from '../src/errors/vitrine-error.ts';
import { hashFile } from './fingerprint.ts';
import { hasAllFiles, MANIFEST_NAME, type Manifest } from './pull.ts';
import { BUILTIN, findModel, MODELS } from './registry.ts';
import { resolveModel, toModelFolder } from './resolve.ts';
import { loadModel } from './transformers-model.ts';

export interface ListedModel {
  readonly id: string;
  /** `shipped` with Vitrine, `here` in MODELS_DIR, or `missing`: to be pulled. */
  readonly state: 'shipped' | 'here' | 'missing';
  readonly dimension: number | undefined;
  readonly hasText: boolean;
  readonly downloadMegabytes: number | undefined;
  readonly choose: string;
  readonly licence: string;
}

/** The built-in model, the registered ones, and the folders of MODELS_DIR that are neither. */
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
  const isUsable = model !== null;
  return {
    id,
    state,
    dimension: model?.dimension,
    hasText: isUsable && model.text !== null,
    downloadMegabytes: undefined,
    choose: isUsable ? choose : 'Not usable: `vitrine models verify` says why.',
    licence,
  };
}

/**
 * Reads every file of a model, compares it with what was published or pulled, loads the model and embeds an image.
 * @returns what was checked, a line each
 * @throws VitrineError `model_unavailable`, `embedding_invalid`
 */
export async function verifyModel(id: string, dir: string): Promise<readonly string[]> {
  const folder = toModelFolder(id, dir);
  const registered = findModel(id);
  const manifest = await readManifest(folder);
  const published = registered?.files ?? [];
  const paths = new Set([...published.map(({ path }) => path), ...Object.keys(manifest?.files ?? {})]);
  const lines: string[] = [];
  for (const path of paths) {
    const expected = published.find((file) => file.path === path)?.sha256 ?? manifest?.files[path]?.sha256;
    const found = await hashFile(join(folder, path)).catch(() => null);
    if (found === null) throw damaged(id, `${path} is missing or can't be read.`);
    if (expected !== undefined && found !== expected)
      throw damaged(id, `${path} is not as it was published.`);
    lines.push(
      `${path}: ${expected === undefined ? 'there, its SHA-256 not known' : 'SHA-256 as published'}`,
    );
  }
  const definition = await resolveModel(id, { dir });
  await using model = await loadModel(definition, { intraOpThreads: 1 });
  if (definition.text !== null) await model.embedTexts(['a product']);
  lines.push(
    `loaded: an image${definition.text === null ? '' : ' and words'} to ${definition.dimension} numbers`,
  );
  return lines;
}

/**
 * Deletes what was pulled of a model.
 * @throws VitrineError `model_unavailable` when it isn't there, or wasn't pulled: what people put there is theirs
 */
export async function removeModel(id: string, dir: string): Promise<void> {
  if (id === BUILTIN.id)
    throw refusal('The built-in model is part of Vitrine.', 'Choose another with MODEL.');
  const folder = toModelFolder(id, dir);
  const partial = join(dir, '.partial', id);
  if (existsSync(folder) && (await readManifest(folder)) === null) {
    throw refusal(`${folder} was not pulled by Vitrine.`, 'Delete it by hand, if nobody needs it.');
  }
  if (!existsSync(folder) && !existsSync(partial))
    throw refusal(`There is no model ${id} in ${dir}.`, 'See `vitrine models list`.');
  for (const path of [folder, partial, `${partial}.lock`]) await rm(path, { recursive: true, force: true });
}

async function readManifest(folder: string): Promise<Manifest | null> {
  const text = await readFile(join(folder, MANIFEST_NAME), 'utf8').catch(() => null);
  return text === null ? null : (JSON.parse(text) as Manifest);
}

function damaged(id: string, detail: string): VitrineError {
  return new VitrineError('model_unavailable', `${id}: ${detail}`, {
    suggestion: `Bring it anew: npm run vitrine -- models remove ${id}, then models pull ${id}`,
  });
}

function refusal(detail: string, suggestion: string): VitrineError {
  return new VitrineError('model_unavailable', detail, { suggestion });
}
