import type { ModelIdentity } from '../src/vectors/port.ts';

/** How the pixels of an image become a model's input. */
export interface Preprocessing {
  /** Side of the square input, in pixels. */
  readonly size: number;
  /** `pad`: whole image on white; `crop`: centre of the image; `stretch`: aspect ratio given up. */
  readonly fit: 'pad' | 'crop' | 'stretch';
  /** For `crop`: the shorter side is resized to this, then the centre of `size` is cut out. */
  readonly cropFrom: number;
  readonly kernel: 'lanczos3' | 'cubic' | 'linear';
  /** Per channel (RGB), on values from 0 to 1. */
  readonly mean: readonly [number, number, number];
  readonly std: readonly [number, number, number];
}

/** An image at the model's input size: interleaved 8-bit sRGB, `size · size · 3` bytes. */
export interface PreparedImage {
  readonly pixels: Uint8Array;
  readonly size: number;
}

export interface EmbedderModel extends ModelIdentity {
  readonly preprocessing: Preprocessing;
  /** True when `embedTexts` works. */
  readonly hasText: boolean;
}

/** Images (and, for some models, words) to L2-normalised vectors of one space. */
export interface Embedder extends AsyncDisposable {
  /** @throws VitrineError `not_ready` before `choose` or `start` has chosen it */
  readonly model: EmbedderModel;
  /**
   * Which model it is, without loading the weights. With MODEL=auto it may ask the collection, and try to download for
   * some seconds.
   * @throws VitrineError `model_unavailable`
   */
  choose(): Promise<EmbedderModel>;
  /**
   * Chooses the model, loads the weights and runs once. Repeated calls share the first one's outcome.
   * @throws VitrineError `model_unavailable`
   */
  start(): Promise<void>;
  /**
   * One inference call for the batch, off the calling thread; vectors in the same order.
   * @throws VitrineError `embedding_failed`, `embedding_invalid`, `embedding_thread_crashed`
   */
  embedImages(images: readonly PreparedImage[]): Promise<readonly Float32Array[]>;
  /** @throws VitrineError `text_not_supported` when the model has no text encoder. */
  embedTexts(texts: readonly string[]): Promise<readonly Float32Array[]>;
}
