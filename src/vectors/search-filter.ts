type Scalar = string | number | boolean;

export interface NumberRange {
  readonly gt?: number;
  readonly gte?: number;
  readonly lt?: number;
  readonly lte?: number;
}

/** Fields whose value is compared as a whole; for `tags`, one of the list must be equal. */
export const KEYWORD_FIELDS = ['productId', 'imageId', 'category', 'brand', 'currency', 'tags'] as const;
export type KeywordField = (typeof KEYWORD_FIELDS)[number];

/** Every given condition must hold. A list of values means any of them. */
export type SearchFilter = { readonly [Field in KeywordField]?: string | readonly string[] } & {
  readonly price?: NumberRange;
  /** By a top-level key of `metadata`. */
  readonly metadata?: Readonly<Record<string, Scalar | readonly Scalar[] | NumberRange>>;
};
