import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { pipeline } from 'node:stream/promises';
import { CsvError, parse } from 'csv-parse';
import { VitrineError } from '../errors/vitrine-error.ts';
import { type Column, toColumns } from './columns.ts';
import type { FeedFault } from './feed.ts';
import type { FeedLine } from './record.ts';

const SEPARATORS = [',', ';', '\t'] as const;
/** No real catalog line is longer; without a limit a missing quote reads the whole file into one record. */
const MAX_RECORD_BYTES = 1_000_000;

interface ParsedRow {
  readonly info: { readonly lines: number };
  readonly record: readonly string[];
}

/**
 * The lines of a CSV file with a header: UTF-8 with or without a byte order mark; separated by commas, semicolons or
 * tabs, by what its header has most of; quoted as in RFC 4180.
 * @throws VitrineError `invalid_request` when the header names no product_id or no image column.
 */
export async function* readCsvFeed(path: string): AsyncGenerator<FeedLine | FeedFault> {
  const parser = parse({
    bom: true,
    delimiter: await detectSeparator(path),
    info: true,
    relax_column_count: true,
    relax_quotes: true,
    skip_empty_lines: true,
    max_record_size: MAX_RECORD_BYTES,
  });
  const reading = pipeline(createReadStream(path), parser);
  // The loop below meets the same error; without a handler it would end the process.
  reading.catch(() => {});
  let columns: readonly (Column | null)[] | undefined;
  let headerCount = 0;
  try {
    for await (const { info, record } of parser as AsyncIterable<ParsedRow>) {
      if (columns === undefined) {
        columns = parseHeader(record);
        headerCount = record.length;
      } else yield toLine(`line ${info.lines}`, record, columns, headerCount);
    }
  } catch (error) {
    if (!(error instanceof CsvError)) throw error;
    throw new VitrineError(
      'invalid_request',
      `The CSV can't be read from line ${error['lines'] ?? '?'} on: ${error.message}.`,
      {
        cause: error,
        suggestion: 'Look for a quote that is never closed, or another separator than the header has.',
      },
    );
  } finally {
    parser.destroy();
  }
}

function parseHeader(headers: readonly string[]): readonly (Column | null)[] {
  const columns = toColumns(headers.map((header) => header.trim()));
  const missing = columns.includes('product_id')
    ? columns.some((column) => column?.startsWith('image') && column !== 'image_id')
      ? undefined
      : 'image_path or image_url'
    : 'product_id';
  if (missing === undefined) return columns;
  throw new VitrineError('invalid_request', `The CSV's header has no column ${missing}.`, {
    suggestion: `Its first line must name the columns; it names ${headers.slice(0, 12).join(', ').slice(0, 200)}.`,
  });
}

function toLine(
  where: string,
  values: readonly string[],
  columns: readonly (Column | null)[],
  headerCount: number,
): FeedLine | FeedFault {
  if (values.length !== headerCount)
    return { where, fault: `it has ${values.length} values, the header has ${headerCount}.` };
  const record: { [Name in Column]?: string } = {};
  for (const [index, column] of columns.entries()) if (column !== null) record[column] = values[index] ?? '';
  return { where, record };
}

async function detectSeparator(path: string): Promise<string> {
  const file = await open(path);
  try {
    const { buffer, bytesRead } = await file.read({ buffer: Buffer.alloc(65_536) });
    const header = buffer.toString('utf8', 0, bytesRead).split(/\r?\n|\r/, 1)[0] ?? '';
    const bare = header.replaceAll(/"[^"]*"/g, '');
    const count = (separator: string) => bare.split(separator).length;
    return SEPARATORS.reduce((best, separator) => (count(separator) > count(best) ? separator : best));
  } finally {
    await file.close();
  }
}
