import { createReadStream } from 'node:fs';
import { createInterface } from 'node:readline';
import { type Column, toColumns } from './columns.ts';
import { toFeedEntry } from './csv-feed.ts';
import type { FeedEntry } from './feed.ts';

/** The entries of a file with one JSON object a line, with the same field names as a CSV's columns. */
export async function* readJsonlFeed(path: string, folder: string): AsyncGenerator<FeedEntry> {
  const input = createReadStream(path, 'utf8');
  try {
    let line = 0;
    for await (const text of createInterface({ input, crlfDelay: Number.POSITIVE_INFINITY })) {
      line += 1;
      const bare = (line === 1 ? text.replace(/^\uFEFF/, '') : text).trim();
      if (bare !== '') yield toEntry(`line ${line}`, bare, folder);
    }
  } finally {
    input.destroy();
  }
}

function toEntry(where: string, text: string, folder: string): FeedEntry {
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
  return toFeedEntry(where, record, folder);
}
