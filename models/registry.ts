import type { Preprocessing } from './embedder.ts';

export type Dtype = 'fp32' | 'fp16' | 'q8' | 'int8' | 'uint8' | 'q4';

/** One ONNX graph of a model, and what to read from it. */
export interface Encoder {
  /** Name of the file in `onnx/`, without the suffix of the dtype and without `.onnx`. */
  readonly file: string;
  /** The graph's output that holds the embedding. */
  readonly output: string;
  /** How [batch, tokens, dimension] becomes [batch, dimension]; `none` when the output has that shape already. */
  readonly pooling: 'none' | 'cls' | 'mean';
}

/** A file of a model's repository on the hub. */
export interface ModelFile {
  readonly path: string;
  /** Hex SHA-256 of its content, where it is known. */
  readonly sha256?: string;
}

/** A model that can be downloaded by a short name. */
export interface RegisteredModel {
  readonly id: string;
  readonly hubId: string;
  /** A commit, a tag or a branch of the hub repository. A download is pinned to the commit it stands for at that time. */
  readonly revision: string;
  readonly dtype: Dtype;
  readonly files: readonly ModelFile[];
  /** All files together, rounded, where the sizes are known. */
  readonly downloadMegabytes?: number;
  readonly dimension: number;
  readonly preprocessing: Preprocessing;
  readonly vision: Encoder;
  readonly text: Encoder | null;
  readonly licence: string;
  /** When to choose it. */
  readonly choose: string;
  /** Where the values above come from. */
  readonly sources: readonly string[];
  /** Which value has no source of its own, and why it was chosen. */
  readonly note?: string;
}

const CLIP_PREPROCESSING: Preprocessing = {
  size: 224,
  fit: 'crop',
  cropFrom: 224,
  kernel: 'cubic',
  mean: [0.48145466, 0.4578275, 0.40821073],
  std: [0.26862954, 0.26130258, 0.27577711],
};

const SIGLIP_PREPROCESSING: Preprocessing = {
  size: 224,
  fit: 'stretch',
  cropFrom: 224,
  kernel: 'cubic',
  mean: [0.5, 0.5, 0.5],
  std: [0.5, 0.5, 0.5],
};

const CONFIG_FILES = [{ path: 'config.json' }, { path: 'preprocessor_config.json' }];
const TOKENIZER_FILES = [{ path: 'tokenizer.json' }, { path: 'tokenizer_config.json' }];
const TWO_TOWERS = [
  ...CONFIG_FILES,
  ...TOKENIZER_FILES,
  { path: 'onnx/vision_model.onnx' },
  { path: 'onnx/text_model.onnx' },
];

const PROJECTED_VISION: Encoder = { file: 'vision_model', output: 'image_embeds', pooling: 'none' };
const PROJECTED_TEXT: Encoder = { file: 'text_model', output: 'text_embeds', pooling: 'none' };
const POOLED_VISION: Encoder = { file: 'vision_model', output: 'pooler_output', pooling: 'none' };
const POOLED_TEXT: Encoder = { file: 'text_model', output: 'pooler_output', pooling: 'none' };

/** The model that ships with Vitrine. Its dimension and preprocessing are read from models/builtin, like its weights. */
export const BUILTIN = {
  id: 'builtin',
  licence: 'Apache-2.0',
  choose: 'Works at once, with nothing to download: near-duplicates, and a first look.',
} as const;

/**
 * The models that can be downloaded.
 *
 * All weights are fp32: the 8-bit exports quantize activations by the range of the whole batch (onnxruntime's
 * DynamicQuantizeLinear), so an image's vector would depend on the other images of its batch.
 */
export const MODELS: readonly RegisteredModel[] = [
  {
    id: 'clip-vit-base-patch32',
    hubId: 'Xenova/clip-vit-base-patch32',
    revision: 'main',
    dtype: 'fp32',
    files: [
      ...CONFIG_FILES,
      ...TOKENIZER_FILES,
      {
        path: 'onnx/vision_model.onnx',
        sha256: 'fd6e1402a588279d1723c7534d4bcba5bc0b14b47dfab0e46f8c47b8270d7d40',
      },
      { path: 'onnx/text_model.onnx' },
    ],
    downloadMegabytes: 609,
    dimension: 512,
    preprocessing: CLIP_PREPROCESSING,
    vision: PROJECTED_VISION,
    text: PROJECTED_TEXT,
    licence: 'MIT (openai/CLIP)',
    choose:
      'The all-rounder: any kind of product, search by words in English, the least work of the large ones.',
    sources: [
      'https://huggingface.co/Xenova/clip-vit-base-patch32/blob/5cc7f82c9a885a73d718909a342c037d6f7e8134/preprocessor_config.json',
      'https://huggingface.co/Xenova/clip-vit-base-patch32/blob/4c1807b705b1d015fb032789cc4d221b23025a6f/onnx/vision_model.onnx',
      'https://huggingface.co/Qdrant/clip-ViT-B-32-vision/blob/a7fc0cdef095d788f8c4da0a5980ab524e591a2f/config.json',
    ],
  },
  {
    id: 'clip-vit-base-patch16',
    hubId: 'Xenova/clip-vit-base-patch16',
    revision: 'main',
    dtype: 'fp32',
    files: TWO_TOWERS,
    dimension: 512,
    preprocessing: CLIP_PREPROCESSING,
    vision: PROJECTED_VISION,
    text: PROJECTED_TEXT,
    licence: 'MIT (openai/CLIP)',
    choose:
      'Like clip-vit-base-patch32 with four times the patches: finer detail, about four times the work.',
    sources: [
      'https://huggingface.co/openai/clip-vit-base-patch16/blob/refs%2Fpr%2F4/preprocessor_config.json',
      'https://huggingface.co/docs/transformers.js/api/models (CLIPVisionModelWithProjection, its example)',
    ],
    note: "The preprocessing comes from OpenAI's own repository; the copy in the repository of the ONNX weights was not checked.",
  },
  {
    id: 'siglip-base-patch16-224',
    hubId: 'Xenova/siglip-base-patch16-224',
    revision: 'main',
    dtype: 'fp32',
    files: TWO_TOWERS,
    downloadMegabytes: 815,
    dimension: 768,
    preprocessing: SIGLIP_PREPROCESSING,
    vision: POOLED_VISION,
    text: POOLED_TEXT,
    licence: 'Apache-2.0 (google/siglip-base-patch16-224)',
    choose: 'A general model for mixed catalogs, trained to match words in English one by one.',
    sources: [
      'https://huggingface.co/Xenova/siglip-base-patch16-224/blob/65a4a3071a821054207f0a80eaa35fb2ed6d46f0/preprocessor_config.json',
      'https://huggingface.co/Xenova/siglip-base-patch16-224/blob/main/config.json',
      'https://huggingface.co/Xenova/siglip-base-patch16-224 (the outputs, in its examples)',
      'https://huggingface.co/Xenova/siglip-base-patch16-224/tree/294847d6b5fe86c91330269da98ce112d6c75e7e/onnx',
    ],
  },
  {
    id: 'siglip2-base-patch16-224',
    hubId: 'onnx-community/siglip2-base-patch16-224-ONNX',
    revision: 'main',
    dtype: 'fp32',
    files: TWO_TOWERS,
    dimension: 768,
    preprocessing: { ...SIGLIP_PREPROCESSING, kernel: 'linear' },
    vision: POOLED_VISION,
    text: POOLED_TEXT,
    licence: 'Apache-2.0 (google/siglip2-base-patch16-224)',
    choose: 'Words in many languages; a general model, trained later than siglip-base-patch16-224.',
    sources: [
      'https://huggingface.co/google/siglip2-base-patch16-224/blob/main/config.json',
      'https://huggingface.co/AXERA-TECH/siglip2-base-patch16-224/blob/main/tokenizer/preprocessor_config.json',
      'https://huggingface.co/onnx-community/siglip2-base-patch16-256-ONNX/tree/main (the files of its sister)',
    ],
    note: "The preprocessing is a copy of Google's; the one in the repository of the ONNX weights was not checked. The outputs are those of the SigLIP class that its model_type names.",
  },
  {
    id: 'marqo-fashion-siglip',
    hubId: 'Marqo/marqo-fashionSigLIP',
    revision: 'main',
    dtype: 'fp32',
    files: TWO_TOWERS,
    dimension: 768,
    preprocessing: SIGLIP_PREPROCESSING,
    vision: PROJECTED_VISION,
    text: PROJECTED_TEXT,
    licence: 'Apache-2.0',
    choose: 'Clothing, shoes, bags and jewellery: trained on fashion catalogs, by picture and by words.',
    sources: [
      'https://huggingface.co/Marqo/marqo-fashionSigLIP/blob/e5619578fd528afa0bf88d8fae37748336a57fa2/preprocessor_config.json',
      'https://huggingface.co/Marqo/marqo-fashionSigLIP (the outputs, in the Transformers.js part of its card)',
    ],
    note: 'The dimension is that of ViT-B-16-SigLIP, from which its card says it was fine-tuned.',
  },
  {
    id: 'dinov2-small',
    hubId: 'Xenova/dinov2-small',
    revision: 'main',
    dtype: 'fp32',
    files: [...CONFIG_FILES, { path: 'onnx/model.onnx' }],
    downloadMegabytes: 89,
    dimension: 384,
    preprocessing: {
      size: 224,
      fit: 'crop',
      cropFrom: 256,
      kernel: 'cubic',
      mean: [0.485, 0.456, 0.406],
      std: [0.229, 0.224, 0.225],
    },
    vision: { file: 'model', output: 'last_hidden_state', pooling: 'cls' },
    text: null,
    licence: 'Apache-2.0 (facebook/dinov2-small)',
    choose: 'The same shape and texture rather than the same meaning; pictures only, small download.',
    sources: [
      'https://huggingface.co/Xenova/dinov2-base/blob/fef96735014749b0e195358c3fc42cc00b08378e/preprocessor_config.json',
      'https://huggingface.co/Xenova/dinov2-small/tree/560a572cedd01ab59cf1a614c2d9673397b65ef2/onnx',
    ],
    note: "The preprocessing is that of the same author's dinov2-base and dinov2-large, of the same 436 bytes as the small one's; 384 is the width of ViT-S.",
  },
  {
    id: 'mobileclip-s0',
    hubId: 'Xenova/mobileclip_s0',
    revision: 'main',
    dtype: 'fp32',
    files: TWO_TOWERS,
    dimension: 512,
    preprocessing: {
      size: 256,
      fit: 'crop',
      cropFrom: 256,
      kernel: 'linear',
      mean: [0, 0, 0],
      std: [1, 1, 1],
    },
    vision: PROJECTED_VISION,
    text: PROJECTED_TEXT,
    licence: "Apple's sample code licence (apple-ascl); read it before you use it commercially",
    choose: 'Little memory and few processors: made for phones; words in English.',
    sources: [
      'https://huggingface.co/Xenova/mobileclip_s0/blob/9db4e77d9bbdeb1c1e8c1efa9702047e8d2d5ec2/preprocessor_config.json',
      'https://huggingface.co/apple/MobileCLIP-S0/commit/3d22d55fff32f091c79bf0f762198c72aa5b760f (the licence)',
    ],
    note: 'The list of its files and its outputs are those of the CLIP classes that load it; they were not checked.',
  },
];

export function findModel(id: string): RegisteredModel | undefined {
  return MODELS.find((model) => model.id === id);
}

/** Ids of the models that can search by words. */
export const TEXT_MODEL_IDS: readonly string[] = MODELS.filter((model) => model.text !== null).map(
  ({ id }) => id,
);
