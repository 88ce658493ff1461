import { z } from 'zod';
import { VitrineError } from '../src/errors/vitrine-error.ts';
import type { Preprocessing } from './embedder.ts';

/** Part of every fingerprint: raised when prepareImage gives other pixels for the same image. */
export const PREPROCESSING_VERSION = 1;

/**
 * Pillow's filters by number (PIL.Image.Resampling), as the `resample` of a preprocessor_config.json. Both
 * Pillow's bicubic and libvips' cubic are the Catmull-Rom kernel (a = −0.5) widened by the scale when shrinking;
 * tests/integration/golden.test.ts says how far their pixels are apart.
 */
const KERNELS: Readonly<Record<number, Preprocessing['kernel']>> = { 1: 'lanczos3', 2: 'linear', 3: 'cubic' };

const side = z.number().int().min(1).max(4096);
const square = z.object({ height: side, width: side }).refine(({ height, width }) => height === width, {
  error: 'must be a square',
});
const channels = z.tuple([z.number(), z.number(), z.number()]);

/** The fields of a preprocessor_config.json that tell how pixels become input; the rest is not read. */
const schema = z.object({
  size: z.union([side, z.object({ shortest_edge: side }), square]),
  crop_size: z.union([side, square]).optional(),
  do_center_crop: z.boolean().optional(),
  resample: z.number().optional(),
  do_rescale: z.boolean().optional(),
  rescale_factor: z.number().optional(),
  do_normalize: z.boolean().optional(),
  image_mean: channels.optional(),
  image_std: channels.optional(),
  /** Ours: the fit, where the one that a model was published with serves products badly. */
  vitrine_fit: z.enum(['pad', 'crop', 'stretch']).optional(),
});

/**
 * What a model's preprocessor_config.json asks for. A centre crop is `crop`; a size of height and width without
 * one is `stretch`; `vitrine_fit` overrides both.
 *
 * @param value the parsed JSON
 * @throws VitrineError `model_unavailable` when a field is missing or says something that isn't supported
 */
export function parsePreprocessing(value: unknown, model: string): Preprocessing {
  const fail = (fault: string): never => {
    throw new VitrineError('model_unavailable', `The preprocessor_config.json of ${model}: ${fault}.`);
  };
  const parsed = schema.safeParse(value);
  if (!parsed.success) {
    const issue = parsed.error.issues[0];
    return fail(`${issue?.path.join('.')} ${issue?.message}`);
  }
  const config = parsed.data;
  const kernel = KERNELS[config.resample ?? 2];
  if (kernel === undefined) return fail(`resample ${config.resample} is not supported`);
  const isByte = config.do_rescale !== false && Math.abs((config.rescale_factor ?? 1 / 255) - 1 / 255) < 1e-6;
  if (!isByte) return fail('rescale_factor is not 1/255');

  const resizedTo =
    typeof config.size === 'number'
      ? config.size
      : 'width' in config.size
        ? config.size.width
        : config.size.shortest_edge;
  const crop = config.crop_size ?? resizedTo;
  const size = config.do_center_crop === true ? (typeof crop === 'number' ? crop : crop.width) : resizedTo;
  const isShortestEdge = typeof config.size === 'object' && 'shortest_edge' in config.size;
  const hasCrop = config.do_center_crop === true || isShortestEdge;
  const normalizes = config.do_normalize !== false;
  return {
    size,
    fit: config.vitrine_fit ?? (hasCrop ? 'crop' : 'stretch'),
    cropFrom: Math.max(resizedTo, size),
    kernel,
    mean: (normalizes && config.image_mean) || [0, 0, 0],
    std: (normalizes && config.image_std) || [1, 1, 1],
  };
}
