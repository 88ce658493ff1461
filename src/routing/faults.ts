import { z } from '@hono/zod-openapi';
import { VitrineError, type VitrineErrorOptions } from '../errors/vitrine-error.ts';

export type Fault = NonNullable<VitrineErrorOptions['faults']>[number];

type Issue = z.core.$ZodIssue;

/** Enough to correct a request by; a hostile one may have any number. */
const MAX_FAULTS = 20;
/** Unknown fields for which the nearest known one is looked for. */
const MAX_SUGGESTIONS = 5;

/**
 * The value as the schema wants it.
 * @throws VitrineError `invalid_request` that names every faulty field, and for an unknown field the one it may mean
 */
export function parseWith<Schema extends z.ZodType>(schema: Schema, value: unknown): z.output<Schema> {
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const known = schema instanceof z.ZodObject ? Object.keys(schema.shape) : [];
  throw invalidRequest(toFaults(parsed.error.issues, known));
}

export function invalidRequest(faults: readonly Fault[]): VitrineError {
  const detail = faults.map(toSentence).join(' ');
  return new VitrineError('invalid_request', detail, { faults });
}

/** A message without a path is a sentence about the whole request. */
const toSentence = ({ path, message }: Fault): string =>
  path === '' ? `${message.charAt(0).toUpperCase()}${message.slice(1)}.` : `${path} ${message}.`;

/** The first faults of a request; the last one says how many more there are. */
export function toFaults(issues: readonly Issue[], known: readonly string[]): readonly Fault[] {
  const faults: Fault[] = [];
  let suggestions = 0;
  let left = 0;
  for (const issue of issues.flatMap(toMeant)) {
    const path = issue.path.map(String).join('.');
    const keys = issue.code === 'unrecognized_keys' ? issue.keys : [null];
    const shown = keys.slice(0, MAX_FAULTS - faults.length);
    left += keys.length - shown.length;
    for (const key of shown) {
      if (key === null) faults.push({ path, message: toMessage(issue) });
      else {
        const near = path === '' && suggestions++ < MAX_SUGGESTIONS ? known : [];
        faults.push({
          path: path === '' ? shorten(key) : `${path}.${shorten(key)}`,
          message: toUnknownMessage(key, near),
        });
      }
    }
  }
  if (left > 0) faults.push({ path: '', message: `there are ${left} more faults` });
  return faults;
}

/** Of a value that may be of several kinds: the faults of the one kind that it is meant to be, where that is plain. */
function toMeant(issue: Issue): readonly Issue[] {
  if (issue.code !== 'invalid_union') return [issue];
  const meant = issue.errors.filter((faults) => !faults.some(isOfOtherKind));
  const [only] = meant;
  if (only === undefined || meant.length > 1) return [issue];
  return only.map((fault) => ({ ...fault, path: [...issue.path, ...fault.path] })).flatMap(toMeant);
}

const isOfOtherKind = ({ code, path }: Issue): boolean => code === 'invalid_type' && path.length === 0;

function toMessage(issue: Issue): string {
  switch (issue.code) {
    case 'invalid_type':
      // Zod keeps the faulty value out of its issues; only its message shows whether a field is missing or wrong.
      return issue.message.endsWith('received undefined')
        ? 'is required'
        : `must be ${toNoun(issue.expected)}`;
    case 'too_small':
      return issue.origin === 'number' || issue.origin === 'int'
        ? `must be at least ${issue.minimum}`
        : `must have at least ${issue.minimum} ${toUnit(issue.origin)}`;
    case 'too_big':
      return issue.origin === 'number' || issue.origin === 'int'
        ? `must be at most ${issue.maximum}`
        : `must have at most ${issue.maximum} ${toUnit(issue.origin)}`;
    case 'invalid_value':
      return `must be ${issue.values.length === 1 ? '' : 'one of '}${issue.values.map(String).join(', ')}`;
    case 'invalid_format':
      return FORMATS[issue.format] ?? issue.message;
    case 'invalid_union':
      return 'has a value of the wrong kind';
    default:
      return issue.message;
  }
}

const FORMATS: Readonly<Record<string, string>> = {
  datetime: 'must be an ISO 8601 instant with its offset, as 2026-01-31T12:00:00Z',
  uuid: 'must be a UUID',
};

const NOUNS: Readonly<Record<string, string>> = {
  string: 'text',
  int: 'a whole number',
  number: 'a number',
  boolean: 'true or false',
  object: 'an object',
  record: 'an object',
  array: 'a list',
};

const toNoun = (expected: string): string => NOUNS[expected] ?? expected;
const toUnit = (origin: string): string => (origin === 'string' ? 'characters' : 'entries');
const shorten = (key: string): string => (key.length > 64 ? `${key.slice(0, 64)}…` : key);

function toUnknownMessage(key: string, known: readonly string[]): string {
  const near = toNearest(key, known);
  return near === undefined ? 'is not a known field' : `is not a known field; did you mean ${near}?`;
}

/** The name that differs only in its spelling (`imageUrl`, `Image-URL`), or by at most two edits. */
export function toNearest(key: string, known: readonly string[]): string | undefined {
  if (key.length > 64) return undefined;
  const bare = toBare(key);
  const ranked = known
    .map((name) => ({ name, distance: toDistance(bare, toBare(name)) }))
    .toSorted((one, other) => one.distance - other.distance);
  const best = ranked[0];
  return best !== undefined && best.distance <= Math.min(2, Math.floor(bare.length / 3))
    ? best.name
    : undefined;
}

const toBare = (name: string): string => name.toLowerCase().replaceAll(/[^a-z\d]/g, '');

/** Levenshtein distance. */
function toDistance(one: string, other: string): number {
  let above = Array.from({ length: other.length + 1 }, (_, column) => column);
  for (const [row, letter] of [...one].entries()) {
    const line = [row + 1];
    for (const [column, counterpart] of [...other].entries()) {
      const replaced = (above[column] ?? 0) + (letter === counterpart ? 0 : 1);
      line.push(Math.min(replaced, (above[column + 1] ?? 0) + 1, (line[column] ?? 0) + 1));
    }
    above = line;
  }
  return above[other.length] ?? 0;
}
