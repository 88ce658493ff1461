/** A part of an upright image, in fractions of its width and height. */
export interface Region {
  readonly x: number;
  readonly y: number;
  readonly width: number;
  readonly height: number;
}

/** How the pixels of an image become a model's input. */
export interface Preprocessing {
  /** Side of the square input, in pixels. */
  readonly size: number;
  /** `pad`: the whole image on white; `crop`: the centre of the image; `stretch`: the whole image, distorted. */
  readonly fit: 'pad' | 'crop' | 'stretch';
  /** For `crop`: the shorter side is resized to this, then the centre of `size` is cut out. */
  readonly cropFrom: number;
  readonly kernel: 'lanczos3' | 'cubic' | 'linear';
  /** Per channel (RGB), on values from 0 to 1. */
  readonly mean: readonly [number, number, number];
  readonly std: readonly [number, number, number];
  /** What is left of the image: of a query's image. No model has one. */
  readonly region?: Region;
}

/** An image at the model's input size: interleaved 8-bit sRGB, `size · size · 3` bytes. */
export interface PreparedImage {
  readonly pixels: Uint8Array;
  readonly size: number;
}

/** The loaded model. Only vectors of the same id, dimension and fingerprint may be compared with each other. */
export interface EmbedderModel {
  readonly id: string;
  readonly dimension: number;
  /** Hex SHA-256 of the weights and of everything else that an image's vector depends on. */
  readonly fingerprint: string;
  readonly preprocessing: Preprocessing;
  /** True when `embedTexts` works. */
  readonly hasText: boolean;
}

/** Turns images (and, for some models, words) into L2-normalised vectors of one space. */
export interface Embedder extends AsyncDisposable {
  /**
   * Brings the model onto this machine, loads it, and runs it once. Repeated calls share one outcome; after a failure,
   * the next call tries again.
   * @throws VitrineError `model_unavailable`, `embedding_invalid`; `store_unavailable` when MODEL=auto can't ask the
   *   store which model its vectors come from
   */
  start(): Promise<EmbedderModel>;
  /**
   * What `start` returned. Nothing is known before: the fingerprint covers the weights, which may have to be
   * downloaded, and MODEL=auto depends on the store.
   * @throws VitrineError `not_ready` until `start` has succeeded
   */
  readonly model: EmbedderModel;
  /** Inference calls that run at once; others wait for them. 1 before `start`. */
  readonly parallelCalls: number;
  /**
   * One inference call for the batch, off the calling thread; returns vectors in the same order. Starts the embedder
   * if need be.
   * @throws VitrineError `embedding_failed`, `embedding_invalid`, `embedding_thread_crashed`, `embedding_timed_out`,
   *   or an error of `start`
   */
  embedImages(images: readonly PreparedImage[]): Promise<readonly Float32Array[]>;
  /** The same for words. @throws VitrineError `text_not_supported` when the model has no text encoder */
  embedTexts(texts: readonly string[]): Promise<readonly Float32Array[]>;
}
