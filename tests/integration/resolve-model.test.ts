import { cp, mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { readFingerprint, resolveModel } from '../../models/files/model-folder.ts';

const builtin = join(import.meta.dirname, '..', '..', 'models', 'builtin');
let dir: string;

beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'vitrine-models-'));
});
afterAll(() => rm(dir, { recursive: true }));

async function addFolder(name: string, files: Readonly<Record<string, object | string>>) {
  await mkdir(join(dir, name, 'onnx'), { recursive: true });
  for (const [path, content] of Object.entries(files)) {
    await writeFile(join(dir, name, path), typeof content === 'string' ? content : JSON.stringify(content));
  }
}

const preprocessor = { size: { height: 224, width: 224 }, resample: 3 };

describe('resolveModel', () => {
  it('finds the model that ships with Vitrine', async () => {
    const model = await resolveModel('builtin', { dir });
    expect(model).toMatchObject({ id: 'builtin', folder: builtin, text: null });
  });

  it('reads a folder that is not in the registry', async () => {
    await addFolder('clip-like', {
      'config.json': { model_type: 'clip', projection_dim: 64 },
      'preprocessor_config.json': preprocessor,
      'onnx/vision_model.onnx': 'vision',
      'onnx/text_model.onnx': 'text',
    });
    expect(await resolveModel('clip-like', { dir })).toMatchObject({
      folder: join(dir, 'clip-like'),
      dtype: 'fp32',
      dimension: 64,
      vision: { file: 'vision_model', output: 'image_embeds', pooling: 'none' },
      text: { file: 'text_model', output: 'text_embeds', pooling: 'none' },
    });
  });

  it('takes the class token of a vision transformer, from quantized weights where there are no others', async () => {
    await addFolder('owner/dino-like', {
      'config.json': { model_type: 'dinov2', hidden_size: 384 },
      'preprocessor_config.json': preprocessor,
      'onnx/model_quantized.onnx': 'vision',
    });
    expect(await resolveModel('owner/dino-like', { dir })).toMatchObject({
      dtype: 'q8',
      dimension: 384,
      vision: { file: 'model', output: 'last_hidden_state', pooling: 'cls' },
      text: null,
    });
  });

  it('has the same fingerprint for the same content and another for anything that changes vectors', async () => {
    await cp(builtin, join(dir, 'copy'), { recursive: true });
    const fingerprint = async () => readFingerprint(await resolveModel('copy', { dir }));
    const first = await fingerprint();
    expect(await fingerprint()).toBe(first);

    const file = join(dir, 'copy', 'preprocessor_config.json');
    await writeFile(file, JSON.stringify({ size: 128, resample: 1, vitrine_fit: 'stretch' }));
    const stretched = await fingerprint();
    await writeFile(file, JSON.stringify({ size: 128, resample: 1, vitrine_fit: 'pad' }));
    const padded = await fingerprint();
    await writeFile(join(dir, 'copy', 'onnx', 'model.onnx'), 'other weights');
    expect(new Set([first, stretched, padded, await fingerprint()]).size).toBe(4);
  });

  it.each([
    ['an unknown name', 'no-such-model', 'neither a known name nor a folder'],
    ['a way out of the folder', '../secrets', 'not a usable model id'],
    ['a way out, hidden', 'a/..', 'not a usable model id'],
    ['an absolute path', '/etc', 'not a usable model id'],
  ])('refuses %s', async (_, id, words) => {
    await expect(resolveModel(id, { dir })).rejects.toMatchObject({
      code: 'model_unavailable',
      message: expect.stringContaining(words),
      suggestion: expect.stringContaining('builtin'),
    });
  });

  it.each([
    [
      'no graph',
      { 'config.json': { hidden_size: 8 }, 'preprocessor_config.json': preprocessor },
      'onnx/model.onnx',
    ],
    ['no dimension', { 'config.json': {}, 'onnx/model.onnx': '' }, 'hidden_size'],
    [
      'no preprocessing',
      { 'config.json': { hidden_size: 8 }, 'onnx/model.onnx': '' },
      'preprocessor_config.json',
    ],
    ['broken JSON', { 'config.json': '{', 'onnx/model.onnx': '' }, 'is not JSON'],
  ])('says what a folder lacks: %s', async (name, files, words) => {
    const id = name.replaceAll(' ', '-');
    await addFolder(id, files as Record<string, object>);
    await expect(resolveModel(id, { dir })).rejects.toMatchObject({
      code: 'model_unavailable',
      message: expect.stringContaining(words),
    });
  });
});
