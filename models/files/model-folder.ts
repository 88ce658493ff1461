import { createHash } from 'node:crypto';
import { createReadStream, existsSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { z } from 'zod';
import { VitrineError } from '../../src/errors/vitrine-error.ts';
import type { Preprocessing } from '../embedder.ts';
import { BUILTIN, type Dtype, type Encoder, findModel, MODELS } from '../registry.ts';

/** How to run a model: what its files say about it, or its entry in the registry. */
interface ModelConfig {
  readonly dtype: Dtype;
  /** Length of its vectors. */
  readonly dimension: number;
  readonly preprocessing: Preprocessing;
  readonly vision: Encoder;
  /** Null for models that only embed images. */
  readonly text: Encoder | null;
}

/** All that is needed to load a model. */
export interface ModelDefinition extends ModelConfig {
  readonly id: string;
  /** Absolute path of a folder in Hugging Face layout: config.json, onnx/… */
  readonly folder: string;
}

const BUILTIN_FOLDER = resolve(import.meta.dirname, '..', 'builtin');

/** A name, or a name with an owner as on the hub. Neither can lead out of MODELS_DIR. */
const ID_PATTERN = /^[A-Za-z0-9][\w.-]*(\/[A-Za-z0-9][\w.-]*)?$/;

/** File name suffixes of transformers.js (src/utils/dtypes.js); the most exact type comes first. */
const SUFFIXES: Readonly<Record<Dtype, string>> = {
  fp32: '',
  fp16: '_fp16',
  q8: '_quantized',
  int8: '_int8',
  uint8: '_uint8',
  q4: '_q4',
};

/**
 * The definition of a model. `builtin` ships with Vitrine. A registered id is described by its entry in the registry,
 * and its weights may still be missing. Any other id is a folder in `dir`, described by its own configuration files.
 *
 * @param dir MODELS_DIR
 * @throws VitrineError `model_unavailable` that says what to do
 */
export async function resolveModel(id: string, { dir }: { readonly dir: string }): Promise<ModelDefinition> {
  const folder = toModelFolder(id, dir);
  const registered = findModel(id);
  if (registered !== undefined) {
    const { dtype, dimension, preprocessing, vision, text } = registered;
    return { id, folder, dtype, dimension, preprocessing, vision, text };
  }
  if (!existsSync(join(folder, 'config.json'))) {
    throw new VitrineError(
      'model_unavailable',
      `There is no model ${id}: neither a known name nor a folder in ${dir}.`,
      {
        suggestion: `Use one of ${knownIds()}, or put a folder with config.json, preprocessor_config.json and onnx/model.onnx into MODELS_DIR.`,
      },
    );
  }
  return { id, folder, ...(await readModelConfig(folder)) };
}

/** The folder in which a model is or would be. @throws VitrineError `model_unavailable` for an unusable id */
export function toModelFolder(id: string, dir: string): string {
  if (id === BUILTIN.id) return BUILTIN_FOLDER;
  if (!ID_PATTERN.test(id) || id.includes('..')) {
    throw new VitrineError('model_unavailable', 'MODEL is not a usable model id.', {
      suggestion: `Use one of ${knownIds()}, or the name of a folder in MODELS_DIR.`,
    });
  }
  return resolve(dir, id);
}

const knownIds = () => [BUILTIN.id, ...MODELS.map((model) => model.id)].join(', ');

/** Path of an encoder's graph, relative to the model's folder. */
export function toOnnxPath({ file }: Pick<Encoder, 'file'>, dtype: Dtype): string {
  return `onnx/${file}${SUFFIXES[dtype]}.onnx`;
}

/** Part of every fingerprint. Raise it when prepareImage returns other pixels for the same image. */
const PREPROCESSING_VERSION = 1;

/** The size of the vision model's weights. @throws VitrineError `model_unavailable` when they can't be read */
export async function readWeightsBytes({ id, folder, vision, dtype }: ModelDefinition): Promise<number> {
  try {
    return (await stat(join(folder, toOnnxPath(vision, dtype)))).size;
  } catch (cause) {
    throw new VitrineError('model_unavailable', `The weights of ${id} can't be read.`, { cause });
  }
}

/**
 * Hex SHA-256 of everything that an image's vector depends on: the content of the vision model's graph, and how images
 * are prepared for it. Reads the whole graph: a fraction of a second for 350 MB.
 */
export async function readFingerprint(model: ModelDefinition): Promise<string> {
  const { id, folder, dtype, dimension, preprocessing, vision } = model;
  const weights = await hashFile(join(folder, toOnnxPath(vision, dtype)));
  const parts = [id, dtype, dimension, toSortedEntries(preprocessing), toSortedEntries(vision), weights];
  return createHash('sha256')
    .update(JSON.stringify([PREPROCESSING_VERSION, ...parts]))
    .digest('hex');
}

function toSortedEntries(value: object): readonly (readonly [string, unknown])[] {
  return Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
}

/** Hex SHA-256 of a file. */
export async function hashFile(path: string): Promise<string> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash);
  return hash.digest('hex');
}

const dimensionSchema = z.number().int().min(1).max(65_536);
const configSchema = z.object({
  model_type: z.string().optional(),
  projection_dim: dimensionSchema.optional(),
  hidden_size: dimensionSchema.optional(),
  vision_config: z.object({ hidden_size: dimensionSchema.optional() }).optional(),
  /** Our own fields, for graphs that don't follow OUTPUTS. */
  vitrine_output: z.string().optional(),
  vitrine_pooling: z.enum(['none', 'cls', 'mean']).optional(),
});

/** What to read from the graphs that optimum exports, by `model_type`. All others have `image_embeds`. */
const OUTPUTS: Readonly<Record<string, Omit<Encoder, 'file'>>> = {
  siglip: { output: 'pooler_output', pooling: 'none' },
  siglip2: { output: 'pooler_output', pooling: 'none' },
  dinov2: { output: 'last_hidden_state', pooling: 'cls' },
  vit: { output: 'last_hidden_state', pooling: 'cls' },
};

/**
 * Reads config.json and preprocessor_config.json, and looks which graphs are there.
 * @throws VitrineError `model_unavailable` that names what is missing or unusable
 */
export async function readModelConfig(folder: string): Promise<ModelConfig> {
  const name = basename(folder);
  const fail = (fault: string): never => {
    throw new VitrineError('model_unavailable', `The folder of the model ${name} ${fault}.`);
  };
  const parsed = configSchema.safeParse(await readJson(folder, 'config.json'));
  if (!parsed.success)
    return fail(`has a config.json with an unusable ${parsed.error.issues[0]?.path.join('.')}`);
  const config = parsed.data;
  // SigLIP's configs leave out the hidden size when it is the default, 768 (transformers, SiglipVisionConfig).
  const implied = config.model_type?.startsWith('siglip') ? 768 : undefined;
  const dimension =
    config.projection_dim ?? config.hidden_size ?? config.vision_config?.hidden_size ?? implied;
  if (dimension === undefined) return fail('has a config.json without projection_dim or hidden_size');

  const has = (file: string, dtype: Dtype) => existsSync(join(folder, toOnnxPath({ file }, dtype)));
  const dtypes = Object.keys(SUFFIXES) as Dtype[];
  const file = dtypes.some((dtype) => has('vision_model', dtype)) ? 'vision_model' : 'model';
  const dtype = dtypes.find((one) => has(file, one));
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
    dimension,
    preprocessing: parsePreprocessing(await readJson(folder, 'preprocessor_config.json'), name),
    vision,
    text: file === 'vision_model' && has('text_model', dtype) ? text : null,
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

/**
 * Pillow's filters by number (PIL.Image.Resampling), as in the `resample` of a preprocessor_config.json. Both
 * Pillow's bicubic and libvips' cubic are the Catmull-Rom kernel (a = −0.5), widened by the scale when shrinking.
 */
const KERNELS: Readonly<Record<number, Preprocessing['kernel']>> = { 1: 'lanczos3', 2: 'linear', 3: 'cubic' };

const side = z.number().int().min(1).max(4096);
const square = z.object({ height: side, width: side }).refine(({ height, width }) => height === width, {
  error: 'must be a square',
});
const channels = z.tuple([z.number(), z.number(), z.number()]);

/** The fields of a preprocessor_config.json that say how pixels become the model's input. */
const preprocessorSchema = z.object({
  size: z.union([side, z.object({ shortest_edge: side }), square]),
  crop_size: z.union([side, square]).optional(),
  do_center_crop: z.boolean().optional(),
  resample: z.number().optional(),
  do_rescale: z.boolean().optional(),
  rescale_factor: z.number().optional(),
  do_normalize: z.boolean().optional(),
  image_mean: channels.optional(),
  image_std: channels.optional(),
  /** Our own field: the fit, where the one that a model was published with suits products badly. */
  vitrine_fit: z.enum(['pad', 'crop', 'stretch']).optional(),
});

/**
 * What a model's preprocessor_config.json asks for. A centre crop means `crop`; a height and width without one mean
 * `stretch`; `vitrine_fit` overrides both.
 *
 * @param value the parsed JSON
 * @throws VitrineError `model_unavailable` when a field is missing or has an unsupported value
 */
export function parsePreprocessing(value: unknown, model: string): Preprocessing {
  const fail = (fault: string): never => {
    throw new VitrineError('model_unavailable', `The preprocessor_config.json of ${model}: ${fault}.`);
  };
  const parsed = preprocessorSchema.safeParse(value);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    return fail(`${issue?.path.join('.')} ${issue?.message}`);
  }
  const config = parsed.data;
  const kernel = KERNELS[config.resample ?? 2];
  if (kernel === undefined) return fail(`resample ${config.resample} is not supported`);
  const isByte = config.do_rescale !== false && Math.abs((config.rescale_factor ?? 1 / 255) - 1 / 255) < 1e-6;
  if (!isByte) return fail('rescale_factor is not 1/255');

  const hasShortestEdge = typeof config.size === 'object' && 'shortest_edge' in config.size;
  const resizedTo = toSide(config.size);
  const size = config.do_center_crop === true ? toSide(config.crop_size ?? resizedTo) : resizedTo;
  const isCropped = config.do_center_crop === true || hasShortestEdge;
  const isNormalized = config.do_normalize !== false;
  return {
    size,
    fit: config.vitrine_fit ?? (isCropped ? 'crop' : 'stretch'),
    cropFrom: Math.max(resizedTo, size),
    kernel,
    mean: (isNormalized && config.image_mean) || [0, 0, 0],
    std: (isNormalized && config.image_std) || [1, 1, 1],
  };
}

function toSide(size: number | { readonly shortest_edge: number } | { readonly width: number }): number {
  if (typeof size === 'number') return size;
  return 'width' in size ? size.width : size.shortest_edge;
}
