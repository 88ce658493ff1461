import type { Preprocessing } from './embedder.ts';

export type Dtype = 'fp32' | 'fp16' | 'q8' | 'int8' | 'uint8' | 'q4';

/** One ONNX graph of a model and what to read from it. */
export interface Encoder {
  /** Name of the file in `onnx/`, without the suffix of the dtype and without `.onnx`. */
  readonly file: string;
  /** The graph's output that holds the embedding. */
  readonly output: string;
  /** How [batch, tokens, dimension] becomes [batch, dimension]; `none` when the output already is. */
  readonly pooling: 'none' | 'cls' | 'mean';
}

/** A model whose folder was found and whose configuration was read: all that the embedder needs. */
export interface ModelDefinition {
  readonly id: string;
  /** Absolute path of a folder in Hugging Face layout: config.json, onnx/… */
  readonly folder: string;
  readonly revision: string;
  readonly dtype: Dtype;
  /** Length of its vectors. */
  readonly dimension: number;
  readonly preprocessing: Preprocessing;
  readonly vision: Encoder;
  /** Null for models that know images only. */
  readonly text: Encoder | null;
  /** Hex SHA-256 of everything that the vectors depend on. */
  readonly fingerprint: string;
}
