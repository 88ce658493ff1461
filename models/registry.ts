import type { Preprocessing } from '../src/ports/embedder.ts';
import type { Dtype, Encoder } from './definition.ts';

/** A file of a model's repository on the hub. */
export interface ModelFile {
  readonly path: string;
  /** Hex SHA-256 of its content, where it is known. */
  readonly sha256?: string;
}

/** A model that is known by a short name: data only. */
export interface RegisteredModel {
  readonly id: string;
  readonly hubId: string;
  /** A commit, a tag or a branch of the hub repository. */
  readonly revision: string;
  readonly dtype: Dtype;
  readonly files: readonly ModelFile[];
  readonly dimension: number;
  readonly preprocessing: Preprocessing;
  readonly vision: Encoder;
  readonly text: Encoder | null;
  readonly licence: string;
  /** When to choose it. */
  readonly choose: string;
  /** Where the values above were read. */
  readonly sources: readonly string[];
  /** What could not be read anywhere, and why the value was taken all the same. */
  readonly note?: string;
}

export const MODELS: readonly RegisteredModel[] = [];

export function findModel(id: string): RegisteredModel | undefined {
  return MODELS.find((model) => model.id === id);
}
