import cliProgress from 'cli-progress';
import { type PullProgress, pullModel } from '../../models/pull.ts';
import { findModel, MODELS } from '../../models/registry.ts';
import { listModels, removeModel, verifyModel } from '../../models/verify.ts';
import { type Config, parseConfig } from '../config/config.ts';
import { VitrineError } from '../errors/vitrine-error.ts';
import { defineCommand, JSON_OPTION, paint, print, printJson, type Terminal, UsageError } from './command.ts';
import { toNearest } from './nearest.ts';
import { toTable } from './table.ts';

type Action = (id: string, settings: Config['model'], terminal: Terminal) => Promise<void>;

const ACTIONS: Readonly<Record<string, Action>> = { pull, verify, remove };

export const modelsCommand = defineCommand({
  name: 'models',
  summary: 'List, download, check or remove the models that turn images into vectors',
  arguments: 'list|pull|verify|remove [MODEL]',
  count: [1, 2],
  details: `list      shows every model, whether it is here, and when to choose it
pull      downloads MODEL into MODELS_DIR; what broke off before is gone on with
verify    reads the files of MODEL, compares them with what was published, and embeds an image
remove    deletes what was pulled of MODEL

MODEL_HUB_URL names a mirror of the hub. MODEL says which model is used.`,
  options: { json: JSON_OPTION },
  examples: [
    'vitrine models list',
    'vitrine models pull clip-vit-base-patch32',
    'vitrine models verify builtin',
  ],
  async run({ json }, [name = '', id], terminal) {
    const settings = parseConfig(terminal.environment).model;
    if (name === 'list') {
      await list(settings, json, terminal);
      return 0;
    }
    const action = Object.hasOwn(ACTIONS, name) ? ACTIONS[name] : undefined;
    if (action === undefined) {
      const near = toNearest(name, ['list', ...Object.keys(ACTIONS)]);
      const hint = near === null ? '' : ` Did you mean \`vitrine models ${near}\`?`;
      throw new UsageError(`vitrine models does not know "${name}".${hint}`);
    }
    if (id === undefined) throw new UsageError(`vitrine models ${name} needs a MODEL.`);
    await action(id, settings, terminal);
    return 0;
  },
});

async function list({ id: chosen, dir }: Config['model'], json: boolean, terminal: Terminal): Promise<void> {
  const models = await listModels(dir);
  if (json) {
    const toJson = ({ hasText, downloadMegabytes, ...model }: (typeof models)[number]) => ({
      ...model,
      has_text: hasText,
      download_megabytes: downloadMegabytes,
    });
    printJson(terminal, models.map(toJson));
    return;
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
  print(terminal, `\nMODEL=${chosen}; weights are kept in ${dir}. docs/models.md tells how to choose.`);
}

async function pull(id: string, settings: Config['model'], terminal: Terminal): Promise<void> {
  const model = findModel(id);
  if (model === undefined) {
    throw new VitrineError('model_unavailable', `There is no model ${id} to pull.`, {
      suggestion: `It can be one of ${MODELS.map((known) => known.id).join(', ')}. Any other is a folder that you put into MODELS_DIR.`,
    });
  }
  if (settings.offline) {
    throw new VitrineError('model_unavailable', 'MODELS_OFFLINE=true forbids to download models.', {
      suggestion: 'Unset it for this command, where the network may be used.',
    });
  }
  const progress = showDownloads(terminal);
  try {
    const { signal } = terminal;
    const folder = await pullModel(model, { ...settings, signal, onProgress: progress.update });
    progress.stop();
    print(terminal, `${paint(terminal.stdout, 'green', '✓')} ${id} is in ${folder}`);
    print(terminal, `  Licence: ${model.licence}. Use it with MODEL=${id}.`);
  } finally {
    progress.stop();
  }
}

async function verify(id: string, { dir }: Config['model'], terminal: Terminal): Promise<void> {
  for (const line of await verifyModel(id, dir))
    print(terminal, `${paint(terminal.stdout, 'green', '✓')} ${line}`);
}

async function remove(id: string, { dir }: Config['model'], terminal: Terminal): Promise<void> {
  await removeModel(id, dir);
  print(terminal, `${id} is no longer in ${dir}.`);
}

/** A bar a file on a terminal, else a line a file; on stderr. */
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
