import cliProgress from 'cli-progress';
import { toDuration } from '../table.ts';
import type { Terminal } from '../terminal.ts';
import type { IndexProgress } from './index-catalog.ts';

export interface ProgressDisplay {
  update(progress: IndexProgress): void;
  stop(): void;
}

const RATE_WINDOW_MS = 10_000;
const LINE_EVERY_MS = 3_000;

/** A bar on a terminal, else a line every few seconds; on stderr, so that stdout holds only results. */
export function showProgress(terminal: Terminal): ProgressDisplay {
  const rate = createRate();
  return terminal.stderr.isTTY ? showBar(terminal, rate) : showLines(terminal, rate);
}

function showBar(terminal: Terminal, rate: Rate): ProgressDisplay {
  const bar = new cliProgress.SingleBar({
    stream: terminal.stderr,
    hideCursor: true,
    format: (options, { progress, total, value }, { note }: { note: string }) => {
      const filled = cliProgress.Format.BarFormat(progress, options);
      return `Indexing ${filled} ${value}/${total} · ${note}`;
    },
    barCompleteChar: '█',
    barIncompleteChar: '░',
    barsize: 28,
    linewrap: false,
  });
  return {
    update(progress) {
      const ended = progress.completed + progress.failures.length;
      const note = rate.note(progress, performance.now());
      if (bar.isActive) bar.update(ended, { note });
      else bar.start(progress.total, ended, { note });
    },
    stop: () => bar.stop(),
  };
}

function showLines(terminal: Terminal, rate: Rate): ProgressDisplay {
  let writtenAt = performance.now();
  return {
    update(progress) {
      const now = performance.now();
      const note = rate.note(progress, now);
      if (now - writtenAt < LINE_EVERY_MS) return;
      writtenAt = now;
      const ended = progress.completed + progress.failures.length;
      terminal.stderr.write(`${ended}/${progress.total} · ${note}\n`);
    },
    stop() {},
  };
}

interface Rate {
  note(progress: IndexProgress, now: number): string;
}

function createRate(): Rate {
  const samples: { readonly at: number; readonly ended: number }[] = [];
  return {
    note({ total, completed, failures, retriedLater, obstacle }, now) {
      const ended = completed + failures.length;
      if (ended !== samples.at(-1)?.ended) samples.push({ at: now, ended });
      while (samples.length > 2 && now - (samples[0]?.at ?? now) > RATE_WINDOW_MS) samples.shift();
      const first = samples[0] ?? { at: now, ended };
      const perSecond = now > first.at ? ((ended - first.ended) * 1_000) / (now - first.at) : 0;
      const left =
        perSecond > 0 && ended < total ? ` · ${toDuration(((total - ended) / perSecond) * 1_000)} left` : '';
      const later = retriedLater > 0 ? ` · ${retriedLater} retried later` : '';
      const failed = `${failures.length} failed${later}`;
      return obstacle === null ? `${perSecond.toFixed(1)}/s · ${failed}${left}` : `${failed} · ${obstacle}`;
    },
  };
}
