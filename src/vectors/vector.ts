import { VitrineError } from '../errors/vitrine-error.ts';

/**
 * Checks a vector before it is stored or searched with.
 * @throws VitrineError `embedding_invalid` for another length, or a value that isn't finite
 */
export function assertVector(vector: Float32Array, dimension: number): void {
  if (vector.length !== dimension) {
    throw new VitrineError(
      'embedding_invalid',
      `The vector has ${vector.length} values; the collection takes ${dimension}.`,
    );
  }
  if (!vector.every(Number.isFinite)) {
    throw new VitrineError('embedding_invalid', 'The vector has a value that is not finite.');
  }
}

/** A cosine as it can be: float arithmetic leaves −1 to 1 by a few millionths. */
export function toCosine(score: number): number {
  return Math.min(1, Math.max(-1, score));
}

interface Model {
  readonly id: string;
  readonly dimension: number;
  readonly fingerprint: string;
}

/**
 * Checks that a collection's vectors may be compared with a model's.
 * @throws VitrineError `model_mismatch`
 */
export function assertSameModel(collection: string, stored: Model, wanted: Model): void {
  const { id, dimension, fingerprint } = stored;
  if (id === wanted.id && dimension === wanted.dimension && fingerprint === wanted.fingerprint) return;
  const detail =
    id === wanted.id
      ? `The collection "${collection}" was made with other weights or preprocessing of the model "${id}".`
      : `The collection "${collection}" holds vectors of the model "${id}", not of "${wanted.id}".`;
  throw new VitrineError('model_mismatch', detail);
}
