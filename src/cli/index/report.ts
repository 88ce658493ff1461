import { paint, plain, print, type Terminal } from '../terminal.ts';
import type { EndedJob } from './follow-jobs.ts';
import type { IndexProgress } from './index-catalog.ts';

/** How many failures of one kind are listed. */
const LISTED = 10;

/** The outcome in one line, and why entries failed: grouped by code, the first ten of each. */
export function printReport(terminal: Terminal, progress: IndexProgress, seconds: number): void {
  const { total, completed, failures, retriedLater } = progress;
  const rate = seconds > 0 ? ` (${(completed / seconds).toFixed(1)}/s)` : '';
  const failed = paint(terminal.stdout, failures.length > 0 ? 'red' : 'green', `${failures.length} failed`);
  print(terminal, `${completed} of ${total} indexed in ${seconds.toFixed(1)} s${rate}, ${failed}`);
  if (retriedLater > 0)
    print(
      terminal,
      `${retriedLater} could not be indexed yet and will be retried later; \`vitrine stats\` shows how many are left.`,
    );
  const groups = Map.groupBy(failures, ({ code }) => code);
  for (const [code, group] of groups) printGroup(terminal, code ?? '', group);
}

function printGroup(terminal: Terminal, code: string, group: readonly EndedJob[]): void {
  print(terminal, `\n${paint(terminal.stdout, 'bold', code)}: ${group.length}`);
  const suggestion = group.find((failure) => failure.suggestion !== '')?.suggestion;
  if (suggestion !== undefined) print(terminal, `  ${plain(suggestion)}`);
  for (const { where, detail } of group.slice(0, LISTED))
    print(terminal, `  ${plain(where)}: ${plain(detail)}`);
  if (group.length > LISTED) print(terminal, `  … and ${group.length - LISTED} more`);
}
