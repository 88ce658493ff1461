import { invalidRequest } from './faults.ts';
import { parseJson } from './json.ts';

export interface Form {
  readonly file: File;
  /** The other fields, as JSON would have them, for the same schema to check. */
  readonly fields: Readonly<Record<string, unknown>>;
}

type Reader = (value: string) => unknown;

// What doesn't read as its kind stays as it is: the schema then says what it should have been.
const asNumber: Reader = (value) =>
  value.trim() === '' || Number.isNaN(Number(value)) ? value : Number(value);
const asBoolean: Reader = (value) => (value === 'true' ? true : value === 'false' ? false : value);

const READERS = new Map<string, Reader>([
  ...['price', 'version', 'delay_seconds', 'soft_timeout_ms', 'hard_timeout_ms'].map(
    (name) => [name, asNumber] as const,
  ),
  ...['limit', 'offset', 'score_threshold', 'diversify'].map((name) => [name, asNumber] as const),
  ...['metadata', 'retry', 'filter', 'weights', 'crop', 'facets'].map((name) => [name, parseJson] as const),
  ['group_by_product', asBoolean],
]);

const LISTS = new Set(['tags', 'exclude']);

/**
 * The file and the fields of a form.
 * @throws VitrineError `invalid_request` without exactly one file `image`, or with a field given twice;
 * `invalid_json` for a field that should hold JSON
 */
export function parseForm(form: FormData): Form {
  const fields: [string, unknown][] = [];
  for (const name of new Set(form.keys())) {
    if (name === 'image') continue;
    const values = form.getAll(name).map((value) => {
      if (typeof value !== 'string') throw invalidRequest([{ path: name, message: 'must not be a file' }]);
      return value;
    });
    if (LISTS.has(name)) fields.push([name, values]);
    else if (values.length > 1) throw invalidRequest([{ path: name, message: 'must be given once' }]);
    else fields.push([name, (READERS.get(name) ?? String)(values[0] ?? '')]);
  }
  const [file, ...others] = form.getAll('image');
  if (!(file instanceof File) || others.length > 0) {
    throw invalidRequest([{ path: 'image', message: 'must be exactly one file' }]);
  }
  return { file, fields: Object.fromEntries(fields) };
}
