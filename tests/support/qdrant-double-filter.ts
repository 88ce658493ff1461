export type PointId = string | number;

export interface DoublePoint {
  readonly id: PointId;
  readonly vectors: ReadonlyMap<string, Float32Array>;
  readonly sparse: ReadonlyMap<string, SparseVector>;
  readonly payload: Readonly<Record<string, unknown>>;
}

export interface SparseVector {
  readonly indices: readonly number[];
  readonly values: readonly number[];
}

export interface Filter {
  readonly must?: Clause;
  readonly should?: Clause;
  readonly must_not?: Clause;
}
type Clause = Condition | readonly Condition[] | null;
interface Condition extends Filter {
  readonly key?: string;
  readonly match?: { readonly value?: unknown; readonly any?: readonly unknown[] };
  readonly range?: Readonly<Record<string, number>>;
  readonly has_id?: readonly PointId[];
  readonly is_empty?: { readonly key: string };
}
const IMITATED = ['key', 'match', 'range', 'has_id', 'is_empty', 'must', 'should', 'must_not'];

/** An answer other than 200, with Qdrant's sentence; 501 for what the double doesn't imitate. */
export class Refusal extends Error {
  readonly status: number;
  constructor(status: number, sentence: string) {
    super(sentence);
    this.status = status;
  }
}

/** The type of each indexed field. */
export type Indexes = ReadonlyMap<string, string>;

export function matches(point: DoublePoint, filter: Filter | null | undefined, indexes: Indexes): boolean {
  const test = (condition: Condition): boolean => holds(point, condition, indexes);
  const should = toList(filter?.should);
  return (
    toList(filter?.must).every(test) &&
    (should.length === 0 || should.some(test)) &&
    !toList(filter?.must_not).some(test)
  );
}

function toList(clause: Clause | undefined): readonly Condition[] {
  return clause === undefined || clause === null ? [] : ([clause].flat() as readonly Condition[]);
}

function holds(point: DoublePoint, condition: Condition, indexes: Indexes): boolean {
  const unknown = Object.keys(condition).find((name) => !IMITATED.includes(name));
  if (unknown !== undefined) throw new Refusal(501, `The double does not imitate the condition "${unknown}"`);
  const { key, match, range, has_id, is_empty } = condition;
  if (has_id !== undefined) return has_id.includes(point.id);
  // A list of nulls only is not empty.
  if (is_empty !== undefined) return valuesAt(point.payload, is_empty.key).length === 0;
  if (key === undefined) return matches(point, condition, indexes);
  const values = valuesAt(point.payload, key).filter((value) => isIndexable(value, indexes.get(key)));
  if (match === undefined) return values.some((value) => isInside(value, range ?? {}));
  const wanted = match.any ?? [match.value];
  return values.some((value) => wanted.includes(value));
}

/** An index holds the values of its own type, and the others are not found through it. */
export function isIndexable(value: unknown, index: string | undefined): boolean {
  if (index === 'keyword') return typeof value === 'string';
  if (index === 'integer') return Number.isInteger(value);
  if (index === 'float') return typeof value === 'number';
  if (index === 'bool') return typeof value === 'boolean';
  return true;
}

function isInside(value: unknown, { gt, gte, lt, lte }: Readonly<Record<string, number>>): boolean {
  return (
    typeof value === 'number' &&
    (gt === undefined || value > gt) &&
    (gte === undefined || value >= gte) &&
    (lt === undefined || value < lt) &&
    (lte === undefined || value <= lte)
  );
}

/** What a condition on the key sees: nothing, the value, or each value of a list. */
export function valuesAt(payload: unknown, key: string): readonly unknown[] {
  let value = payload;
  for (const name of toPath(key)) {
    if (typeof value !== 'object' || value === null || Array.isArray(value)) return [];
    value = (value as Record<string, unknown>)[name];
  }
  return value === undefined || value === null ? [] : [value].flat();
}

/** Qdrant's JSON paths: plain names, or names in quotes that can't hold a quote, joined by dots. */
function toPath(key: string): readonly string[] {
  if (!/^(?:"[^"]*"|[\w-]+)(?:\.(?:"[^"]*"|[\w-]+))*$/.test(key)) {
    throw new Refusal(400, `Format error in JSON body: Invalid json path: \`${key}\``);
  }
  return Array.from(key.matchAll(/"([^"]*)"|[\w-]+/g), ([name, quoted]) => quoted ?? name);
}
