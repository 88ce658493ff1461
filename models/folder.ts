import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { z } from 'zod';
import { VitrineError } from '../src/errors/vitrine-error.ts';
import type { Dtype, Encoder } from './definition.ts';
import type { Preprocessing } from './embedder.ts';
import { parsePreprocessing } from './preprocessing.ts';

/** What the files of a folder in Hugging Face layout say of the model in it. */
export interface ModelFolder {
  readonly dtype: Dtype;
  readonly dimension: number;
  readonly preprocessing: Preprocessing;
  readonly vision: Encoder;
  readonly text: Encoder | null;
}

/** File name suffixes of transformers.js (src/utils/dtypes.js), the most exact first. */
const SUFFIXES: readonly (readonly [Dtype, string])[] = [
  ['fp32', ''],
  ['fp16', '_fp16'],
  ['q8', '_quantized'],
  ['int8', '_int8'],
  ['uint8', '_uint8'],
  ['q4', '_q4'],
];

/** Path of an encoder's graph, relative to the model's folder. */
export function toOnnxPath(encoder: Encoder, dtype: Dtype): string {
  const suffix = SUFFIXES.find(([name]) => name === dtype)?.[1] ?? '';
  return `onnx/${encoder.file}${suffix}.onnx`;
}

const dimension = z.number().int().min(1).max(65_536);
const schema = z.object({
  model_type: z.string().optional(),
  projection_dim: dimension.optional(),
  hidden_size: dimension.optional(),
  vision_config: z.object({ hidden_size: dimension.optional() }).optional(),
  /** Ours, for graphs that the rules below read wrongly. */
  vitrine_output: z.string().optional(),
  vitrine_pooling: z.enum(['none', 'cls', 'mean']).optional(),
});

/** What to read from the graphs that optimum exports, by `model_type`; anything else has `image_embeds`. */
const OUTPUTS: Readonly<Record<string, Omit<Encoder, 'file'>>> = {
  siglip: { output: 'pooler_output', pooling: 'none' },
  siglip2: { output: 'pooler_output', pooling: 'none' },
  dinov2: { output: 'last_hidden_state', pooling: 'cls' },
  vit: { output: 'last_hidden_state', pooling: 'cls' },
};

/**
 * Reads config.json and preprocessor_config.json and looks which graphs are there.
 * @throws VitrineError `model_unavailable` that names what is missing or unusable
 */
export async function readModelFolder(folder: string): Promise<ModelFolder> {
  const model = basename(folder);
  const fail = (fault: string): never => {
    throw new VitrineError('model_unavailable', `The folder of the model ${model} ${fault}.`);
  };
  const parsed = schema.safeParse(await readJson(folder, 'config.json'));
  if (!parsed.success)
    return fail(`has a config.json with an unusable ${parsed.error.issues[0]?.path.join('.')}`);
  const config = parsed.data;
  // SigLIP's hidden size of 768 is the default that its configs leave out (transformers, SiglipVisionConfig).
  const implied = config.model_type?.startsWith('siglip') ? 768 : undefined;
  const length = config.projection_dim ?? config.hidden_size ?? config.vision_config?.hidden_size ?? implied;
  if (length === undefined) return fail('has a config.json without projection_dim or hidden_size');

  const has = (file: string, suffix: string) => existsSync(join(folder, 'onnx', `${file}${suffix}.onnx`));
  const file = SUFFIXES.some(([, suffix]) => has('vision_model', suffix)) ? 'vision_model' : 'model';
  const dtype = SUFFIXES.find(([, suffix]) => has(file, suffix))?.[0];
  if (dtype === undefined) return fail('has neither onnx/model.onnx nor onnx/vision_model.onnx');

  const byType = OUTPUTS[config.model_type ?? ''] ?? { output: 'image_embeds', pooling: 'none' };
  const vision: Encoder = {
    file,
    output: config.vitrine_output ?? byType.output,
    pooling: config.vitrine_pooling ?? byType.pooling,
  };
  const text: Encoder = {
    file: 'text_model',
    output: byType.output === 'image_embeds' ? 'text_embeds' : 'pooler_output',
    pooling: 'none',
  };
  return {
    dtype,
    dimension: length,
    preprocessing: parsePreprocessing(await readJson(folder, 'preprocessor_config.json'), model),
    vision,
    text: file === 'vision_model' && existsSync(join(folder, toOnnxPath(text, dtype))) ? text : null,
  };
}

async function readJson(folder: string, name: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(join(folder, name), 'utf8'));
  } catch (cause) {
    const fault = cause instanceof SyntaxError ? 'is not JSON' : 'could not be read';
    throw new VitrineError('model_unavailable', `${name} of the model ${basename(folder)} ${fault}.`, {
      cause,
    });
  }
}
