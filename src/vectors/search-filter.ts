export type Scalar = string | number | boolean;

export interface NumberRange {
  readonly gt?: number;
  readonly gte?: number;
  readonly lt?: number;
  readonly lte?: number;
}

/**
 * What must hold for a field: all that is given. A list, such as `tags`, has several values; the others one or none.
 * Types count: "1", 1 and true are three values. A range compares numbers only.
 */
export interface FieldCondition extends NumberRange {
  /** It has one of these values. Of no values: never. */
  readonly any?: readonly Scalar[];
  /** It has each of these values. */
  readonly all?: readonly Scalar[];
  /** It has none of these values; also when it has no value at all. */
  readonly not?: readonly Scalar[];
  /** It has a value, or none: absent, null or an empty list. */
  readonly exists?: boolean;
}

/** A value, or a list of which one is enough, is short for `any`. */
export type FieldFilter = Scalar | readonly Scalar[] | FieldCondition;

export const FILTER_FIELDS = [
  'productId',
  'imageId',
  'category',
  'brand',
  'currency',
  'tags',
  'price',
] as const;
export type FilterField = (typeof FILTER_FIELDS)[number];

/** Every given condition must hold. */
export type SearchFilter = { readonly [Field in FilterField]?: FieldFilter } & {
  /** By a top-level key of `metadata`. */
  readonly metadata?: Readonly<Record<string, FieldFilter>>;
};

export function toFieldCondition(filter: FieldFilter): FieldCondition {
  if (Array.isArray(filter)) return { any: filter };
  return typeof filter === 'object' ? (filter as FieldCondition) : { any: [filter] };
}
