import cliProgress from 'cli-progress';
import { listModels, removeModel, verifyModel } from '../../models/files/local-models.ts';
import { type PullProgress, pullModel } from '../../models/files/pull-model.ts';
import { findModel, MODELS } from '../../models/registry.ts';
import { parseConfig } from '../config/config.ts';
import { VitrineError } from '../errors/vitrine-error.ts';
import { toTable } from './table.ts';
import { paint, print, printJson, type Terminal } from './terminal.ts';

export async function listCommand(
  { json }: { readonly json?: boolean | undefined },
  terminal: Terminal,
): Promise<number> {
  const { id: chosen, dir } = parseConfig(terminal.environment).model;
  const models = await listModels(dir);
  if (json) {
    const toJson = ({ hasText, downloadMegabytes, ...model }: (typeof models)[number]) => ({
      ...model,
      has_text: hasText,
      download_megabytes: downloadMegabytes,
    });
    printJson(terminal, models.map(toJson));
    return 0;
  }
  const rows = models.map(({ id, state, dimension, hasText, downloadMegabytes, choose }) => [
    id === chosen ? `${id} *` : id,
    state !== 'missing'
      ? state
      : downloadMegabytes === undefined
        ? 'to pull'
        : `to pull, ${downloadMegabytes} MB`,
    `${dimension ?? ''}`,
    hasText ? 'yes' : 'no',
    choose,
  ]);
  const columns = [
    { title: 'model' },
    { title: 'here' },
    { title: 'numbers', align: 'right' },
    { title: 'words' },
    { title: 'choose it for', maxWidth: 100 },
  ] as const;
  print(terminal, toTable(columns, rows));
  print(terminal, `\nMODEL=${chosen}; weights are kept in ${dir}. docs/models.md says how to choose.`);
  return 0;
}

export async function pullCommand(id: string, terminal: Terminal): Promise<number> {
  const settings = parseConfig(terminal.environment).model;
  const model = findModel(id);
  if (model === undefined) {
    throw new VitrineError('model_unavailable', `There is no model ${id} to pull.`, {
      suggestion: `It can be one of ${MODELS.map((known) => known.id).join(', ')}. Any other is a folder that you put into MODELS_DIR.`,
    });
  }
  if (settings.offline) {
    throw new VitrineError('model_unavailable', 'MODELS_OFFLINE=true forbids downloads.', {
      suggestion: 'Unset it for this command.',
    });
  }
  const progress = showDownloads(terminal);
  try {
    const { signal } = terminal;
    const folder = await pullModel(model, { ...settings, signal, onProgress: progress.update });
    progress.stop();
    print(terminal, `${paint(terminal.stdout, 'green', '✓')} ${id} is in ${folder}`);
    print(terminal, `  Licence: ${model.licence}. Use it with MODEL=${id}.`);
    return 0;
  } finally {
    progress.stop();
  }
}

export async function verifyCommand(id: string, terminal: Terminal): Promise<number> {
  const { dir } = parseConfig(terminal.environment).model;
  for (const line of await verifyModel(id, dir))
    print(terminal, `${paint(terminal.stdout, 'green', '✓')} ${line}`);
  return 0;
}

export async function removeCommand(id: string, terminal: Terminal): Promise<number> {
  const { dir } = parseConfig(terminal.environment).model;
  await removeModel(id, dir);
  print(terminal, `${id} is no longer in ${dir}.`);
  return 0;
}

/** A bar per file on a terminal, else a line per file; on stderr. */
function showDownloads({ stderr }: Terminal): { update(progress: PullProgress): void; stop(): void } {
  const bar = new cliProgress.SingleBar({
    stream: stderr,
    hideCursor: true,
    format: '{path} {bar} {megabytes} MB · {eta_formatted} left',
    barCompleteChar: '█',
    barIncompleteChar: '░',
    barsize: 28,
    linewrap: false,
  });
  let shown = '';
  return {
    update({ path, bytes, totalBytes }) {
      const note = { path, megabytes: (bytes / 1e6).toFixed(1) };
      if (path === shown) {
        if (stderr.isTTY) bar.update(bytes, note);
        return;
      }
      shown = path;
      if (!stderr.isTTY) {
        stderr.write(`${path}${totalBytes === undefined ? '' : `, ${(totalBytes / 1e6).toFixed(1)} MB`}\n`);
        return;
      }
      bar.stop();
      bar.start(totalBytes ?? bytes, bytes, note);
    },
    stop: () => bar.stop(),
  };
}
