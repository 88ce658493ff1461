import type { Config } from '../config/config.ts';

/** Room for the fields beside the image. */
const FIELDS_BYTES = 65_536 * 2;
const MIN_BATCH_BYTES = 67_108_864;

/** Greatest sizes of request bodies, in bytes. */
export interface BodyLimits {
  /** One job or one search as JSON, its image inline in base64. */
  readonly json: number;
  /** The same as a form, its image as it is. */
  readonly form: number;
  /** All jobs of a batch; it is held in memory as a whole. */
  readonly batch: number;
}

export function toBodyLimits({ images }: Config): BodyLimits {
  const json = Math.ceil(images.maxBytes / 3) * 4 + FIELDS_BYTES;
  return { json, form: images.maxBytes + FIELDS_BYTES, batch: Math.max(MIN_BATCH_BYTES, json) };
}
