import type { ProductFields } from '../catalog/product-image.ts';
import type { ProductPatch } from './port.ts';

/** The value that a field was changed to, and when; null: it was removed. */
interface Change {
  readonly value: unknown;
  readonly sequence: number;
}

/** By the name of the field. */
export type Changes = Readonly<Record<string, Change>>;

/**
 * What was changed in a product's data by itself, apart from its images. Each field keeps its change of the greatest
 * sequence, so that changes may be merged in any order, and repeated.
 */
export interface ProductChanges {
  readonly fields: Changes;
  /** By the top-level key of `metadata`. */
  readonly metadata: Changes;
}

export const NO_CHANGES: ProductChanges = { fields: {}, metadata: {} };

export function mergePatch(
  { fields, metadata }: ProductChanges,
  { metadata: keys = {}, ...patch }: ProductPatch,
  sequence: number,
): ProductChanges {
  return {
    fields: mergeChanges(fields, patch, sequence),
    metadata: mergeChanges(metadata, keys, sequence),
  };
}

function mergeChanges(
  changes: Changes,
  values: Readonly<Record<string, unknown>>,
  sequence: number,
): Changes {
  const newer = Object.entries(values).filter(
    ([name, value]) => value !== undefined && (ownValue(changes, name)?.sequence ?? -1) <= sequence,
  );
  // From entries, so that a key such as `__proto__` is one like the others.
  return Object.fromEntries([
    ...Object.entries(changes),
    ...newer.map(([name, value]) => [name, { value, sequence }] as const),
  ]);
}

/** The data of an image's job, with what was changed after the job was enqueued. */
export function applyChanges<T extends ProductFields>(data: T, sequence: number, changes: ProductChanges): T {
  const metadata = override(data.metadata, changes.metadata, sequence);
  const fields = override(data, changes.fields, sequence) as T;
  return metadata === data.metadata ? fields : { ...fields, metadata };
}

/** The same object when nothing is newer. */
function override<T extends object | undefined>(data: T, changes: Changes, sequence: number): T | object {
  const newer = Object.entries(changes).filter(([, change]) => change.sequence > sequence);
  if (newer.length === 0) return data;
  const values = new Map<string, unknown>(Object.entries(data ?? {}));
  for (const [name, { value }] of newer) {
    if (value === null) values.delete(name);
    else values.set(name, value);
  }
  return Object.fromEntries(values);
}

function ownValue(changes: Changes, name: string): Change | undefined {
  return Object.hasOwn(changes, name) ? changes[name] : undefined;
}
