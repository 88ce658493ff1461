import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { type Column, toColumns } from './columns.ts';
import type { FeedFault } from './feed.ts';
import type { FeedLine } from './record.ts';

/** The lines of a file with one JSON object per line, with the same field names as the columns of a CSV. */
export async function* readJsonlFeed(path: string): AsyncGenerator<FeedLine | FeedFault> {
  const input = createReadStream(path, 'utf8');
  try {
    let line = 0;
    for await (const text of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
      line += 1;
      const bare = (line === 1 ? text.replace(/^\uFEFF/, '') : text).trim();
      if (bare !== '') yield toLine(`line ${line}`, bare);
    }
  } finally {
    input.destroy();
  }
}

function toLine(where: string, text: string): FeedLine | FeedFault {
  let parsed: unknown;
  try {
    parsed = JSON.parse(text);
  } catch {
    return { where, fault: 'it is not JSON.' };
  }
  if (typeof parsed !== 'object' || parsed === null || Array.isArray(parsed))
    return { where, fault: 'it is not a JSON object.' };
  const names = Object.keys(parsed);
  const values = Object.values(parsed);
  const record: { [Name in Column]?: unknown } = {};
  for (const [index, column] of toColumns(names).entries())
    if (column !== null) record[column] = values[index];
  return { where, record };
}
