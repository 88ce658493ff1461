import type { SQLInputValue } from 'node:sqlite';
import {
  FILTER_FIELDS,
  type FieldFilter,
  type NumberRange,
  type Scalar,
  type SearchFilter,
  toFieldCondition,
} from '../search-filter.ts';

/** A part of a WHERE clause with its values, in order. */
export interface SqlCondition {
  readonly sql: string;
  readonly values: readonly SQLInputValue[];
}

const COMPARISONS = { gt: '>', gte: '>=', lt: '<', lte: '<=' } as const;

/** The filter over the JSON column `payload`. Types count: "1", 1 and true are three different values. */
export function toSqlConditions(filter: SearchFilter): readonly SqlCondition[] {
  const fields = FILTER_FIELDS.flatMap((field) => {
    const wanted = filter[field];
    return wanted === undefined ? [] : toConditions(`$.${field}`, wanted);
  });
  const metadata = Object.entries(filter.metadata ?? {}).flatMap(([key, wanted]) =>
    toConditions(`$.metadata.${JSON.stringify(key)}`, wanted),
  );
  return [...fields, ...metadata];
}

function toConditions(path: string, filter: FieldFilter): readonly SqlCondition[] {
  const { any, all = [], not = [], exists, ...range } = toFieldCondition(filter);
  return [
    ...(any === undefined ? [] : [anyOf(path, any)]),
    ...all.map((value) => anyOf(path, [value])),
    ...(not.length === 0 ? [] : [negate(anyOf(path, not))]),
    ...inRange(path, range),
    ...(exists === undefined ? [] : [exists ? hasValue(path) : negate(hasValue(path))]),
  ];
}

function negate({ sql, values }: SqlCondition): SqlCondition {
  return { sql: `NOT (${sql})`, values };
}

function hasValue(path: string): SqlCondition {
  return {
    sql: "coalesce(json_type(payload, ?), 'null') <> 'null' AND payload -> ? <> '[]'",
    values: [path, path],
  };
}

/**
 * True when the value at the path passes the test, or one of its elements when it is a list. `json_each` returns one
 * row for a scalar, a row per element for a list, and a row per member for an object, which a filter must not see.
 */
function someValue(path: string, test: string, values: readonly SQLInputValue[]): SqlCondition {
  return {
    sql: `json_type(payload, ?) <> 'object' AND EXISTS (SELECT 1 FROM json_each(payload, ?) WHERE ${test})`,
    values: [path, path, ...values],
  };
}

function anyOf(path: string, wanted: readonly Scalar[]): SqlCondition {
  const texts = wanted.filter((value) => typeof value === 'string');
  const numbers = wanted.filter((value) => typeof value === 'number');
  const booleans = [true, false].filter((value) => wanted.includes(value));
  // Lists, for SQLite refuses deep expressions, which a thousand values with OR between them are.
  const tests = [
    ...(texts.length > 0 ? [`(type = 'text' AND atom IN (${toMarks(texts)}))`] : []),
    ...(numbers.length > 0 ? [`(${IS_NUMBER} AND atom IN (${toMarks(numbers)}))`] : []),
    ...booleans.map((value) => `type = '${value}'`),
  ];
  if (tests.length === 0) return { sql: 'FALSE', values: [] };
  return someValue(path, `(${tests.join(' OR ')})`, [...texts, ...numbers]);
}

const toMarks = (values: readonly unknown[]): string => values.map(() => '?').join(', ');

const IS_NUMBER = "type IN ('integer', 'real')";

/** A range without a bound is no condition. */
function inRange(path: string, range: NumberRange): readonly SqlCondition[] {
  const bounds = toBounds(range);
  if (bounds.length === 0) return [];
  const test = [IS_NUMBER, ...bounds.map(({ comparison }) => `atom ${comparison} ?`)].join(' AND ');
  return [
    someValue(
      path,
      test,
      bounds.map((bound) => bound.value),
    ),
  ];
}

export function toBounds(
  range: NumberRange,
): readonly { readonly comparison: string; readonly value: number }[] {
  return (['gt', 'gte', 'lt', 'lte'] as const).flatMap((name) => {
    const value = range[name];
    return value === undefined ? [] : [{ comparison: COMPARISONS[name], value }];
  });
}
