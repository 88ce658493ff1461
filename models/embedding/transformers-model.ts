import { basename, dirname } from 'node:path';
import { AutoTokenizer, env, PreTrainedModel, type PreTrainedTokenizer, Tensor } from '@xenova/transformers';
import { VitrineError } from '../../src/errors/vitrine-error.ts';
import type { PreparedImage, Preprocessing } from '../embedder.ts';
import type { ModelDefinition } from '../files/model-folder.ts';
import type { Encoder } from '../registry.ts';
import { type Chosen, type Device, type DeviceSetting, openOnDevice } from './device.ts';

/** A model in this thread's memory. Each call blocks the thread while onnxruntime computes. */
export interface LoadedModel extends AsyncDisposable {
  /** What it computes on, and why there. */
  readonly device: Pick<Chosen<never>, 'device' | 'why'>;
  /** One inference call; the vectors, L2-normalised, one after the other: `images.length · dimension`. */
  embedImages(images: readonly PreparedImage[]): Promise<Float32Array>;
  /** The same for words. @throws VitrineError `text_not_supported` */
  embedTexts(texts: readonly string[]): Promise<Float32Array>;
}

export interface LoadOptions {
  readonly device: DeviceSetting;
  /** Processors that one inference call uses. */
  readonly intraOpThreads: number;
  /** Its threads wait for each other in a loop, and let nothing else run meanwhile. Default: true. */
  readonly isSpinning?: boolean | undefined;
}

/**
 * Loads a model from its folder, never from the network, and runs it once on a white image.
 * @throws VitrineError `model_unavailable`, `device_unavailable`, `embedding_invalid` when the output isn't what the definition says
 */
export async function loadModel(definition: ModelDefinition, options: LoadOptions): Promise<LoadedModel> {
  env.allowRemoteModels = false;
  env.useFSCache = false;
  env.useBrowserCache = false;
  env.localModelPath = dirname(definition.folder);

  const load = (encoder: Encoder, device: Device) => loadEncoder(definition, encoder, options, device);
  const {
    opened: vision,
    device,
    why,
  } = await openOnDevice(options.device, (each) => load(definition.vision, each));
  const planes = createPlanes(definition.preprocessing);
  let text: { readonly run: EncoderRun; readonly tokenizer: PreTrainedTokenizer } | undefined;

  const loaded: LoadedModel = {
    device: { device, why },
    async embedImages(images) {
      const { size } = definition.preprocessing;
      const pixels = new Tensor('float32', planes.fill(images), [images.length, 3, size, size]);
      return toUnitVectors(await vision.run({ pixel_values: pixels }), images.length, definition.dimension);
    },
    async embedTexts(texts) {
      if (definition.text === null) {
        throw new VitrineError(
          'text_not_supported',
          `The model ${definition.id} only knows images, not words.`,
        );
      }
      // Loaded when first used: workers never need it.
      text ??= {
        run: await load(definition.text, device),
        tokenizer: await AutoTokenizer.from_pretrained(basename(definition.folder), {
          local_files_only: true,
        }),
      };
      const tokens = text.tokenizer([...texts], { padding: 'max_length', truncation: true });
      return toUnitVectors(await text.run.run(tokens), texts.length, definition.dimension);
    },
    async [Symbol.asyncDispose]() {
      await vision.dispose();
      await text?.run.dispose();
    },
  };
  const { size } = definition.preprocessing;
  await loaded.embedImages([{ size, pixels: new Uint8Array(size * size * 3).fill(255) }]);
  return loaded;
}

interface EncoderRun {
  run(inputs: Record<string, unknown>): Promise<Float32Array>;
  dispose(): Promise<void>;
}

async function loadEncoder(
  definition: ModelDefinition,
  encoder: Encoder,
  { intraOpThreads, isSpinning = true }: LoadOptions,
  device: Device,
): Promise<EncoderRun> {
  const model = await PreTrainedModel.from_pretrained(basename(definition.folder), {
    model_file_name: encoder.file,
    dtype: definition.dtype,
    device,
    local_files_only: true,
    session_options: {
      intraOpNumThreads: intraOpThreads,
      interOpNumThreads: 1,
      extra: { session: { intra_op: { allow_spinning: isSpinning ? '1' : '0' } } },
    },
  }).catch((cause: unknown) => {
    throw new VitrineError('model_unavailable', `The model ${definition.id} could not be loaded.`, { cause });
  });
  return {
    async run(inputs) {
      const outputs = (await model(inputs)) as Record<string, Tensor | undefined>;
      const output = outputs[encoder.output];
      if (output === undefined) {
        const names = Object.keys(outputs).join(', ');
        throw new VitrineError(
          'embedding_invalid',
          `The model ${definition.id} has no output ${encoder.output}; it has ${names}.`,
        );
      }
      return pool(output, encoder.pooling);
    },
    async dispose() {
      await model.dispose();
    },
  };
}

/** The model's input. */
interface Planes {
  /**
   * Interleaved bytes of all images to planes of normalised floats: [batch, 3, size, size]. The next call overwrites
   * them: a new array of some megabytes for each batch would start the garbage collector each time.
   */
  fill(images: readonly PreparedImage[]): Float32Array;
}

function createPlanes({ size, mean, std }: Preprocessing): Planes {
  const area = size * size;
  // A table of the 256 possible values per channel is faster than a division per pixel.
  const tables = [0, 1, 2].map((channel) =>
    Float32Array.from({ length: 256 }, (_, value) => {
      return (value / 255 - (mean[channel] ?? 0)) / (std[channel] ?? 1);
    }),
  );
  let planes = new Float32Array(0);
  return {
    fill(images) {
      const length = images.length * 3 * area;
      if (planes.length < length) planes = new Float32Array(length);
      images.forEach(({ pixels }, index) => {
        if (pixels.length !== area * 3) {
          throw new VitrineError(
            'embedding_failed',
            `Expected ${area * 3} bytes of pixels but got ${pixels.length}.`,
          );
        }
        tables.forEach((table, channel) => {
          const start = (index * 3 + channel) * area;
          for (let pixel = 0; pixel < area; pixel++) {
            planes[start + pixel] = table[pixels[pixel * 3 + channel] ?? 0] ?? 0;
          }
        });
      });
      return planes.subarray(0, length);
    },
  };
}

/** [batch, tokens, dimension] to [batch, dimension], as the model was trained to be read. */
function pool(output: Tensor, pooling: Encoder['pooling']): Float32Array {
  const data = output.data as Float32Array;
  if (pooling === 'none') return data;
  const [batch = 0, tokens = 0, dimension = 0] = output.dims;
  const pooled = new Float32Array(batch * dimension);
  const used = pooling === 'cls' ? 1 : tokens;
  for (let item = 0; item < batch; item++) {
    for (let token = 0; token < used; token++) {
      const from = (item * tokens + token) * dimension;
      for (let i = 0; i < dimension; i++) {
        pooled[item * dimension + i] = (pooled[item * dimension + i] ?? 0) + (data[from + i] ?? 0) / used;
      }
    }
  }
  return pooled;
}

/**
 * The vectors scaled to length 1, so that their dot product is their cosine.
 * @throws VitrineError `embedding_invalid` for another length than expected, or a vector without a direction
 */
export function toUnitVectors(data: Float32Array, count: number, dimension: number): Float32Array {
  if (data.length !== count * dimension) {
    throw new VitrineError(
      'embedding_invalid',
      `The model returned ${data.length / count} numbers per item instead of ${dimension}.`,
    );
  }
  const vectors = new Float32Array(data.length);
  for (let start = 0; start < data.length; start += dimension) {
    let sum = 0;
    for (let i = start; i < start + dimension; i++) sum += (data[i] ?? 0) ** 2;
    const length = Math.sqrt(sum);
    if (!Number.isFinite(length) || length === 0) {
      throw new VitrineError('embedding_invalid', 'The model returned a vector that is zero or not finite.');
    }
    for (let i = start; i < start + dimension; i++) vectors[i] = (data[i] ?? 0) / length;
  }
  return vectors;
}
