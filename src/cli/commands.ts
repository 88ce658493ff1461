import { Command, InvalidArgumentError, Option } from '@commander-js/extra-typings';
import packageJson from '../../package.json' with { type: 'json' };
import { SCOPES } from '../config/api-keys.ts';
import type { Terminal } from './terminal.ts';

/** Commands that stop in their own way after a signal; the others are left where they are. */
export const DRAINING_COMMANDS: readonly string[] = ['serve', 'worker', 'index'];

/**
 * The whole command line: every command with its options. What a command does is in a file of its own, loaded when the
 * command runs, so that help is shown at once.
 * @param onEnd called with the exit code of the command
 */
export function createCommands(terminal: Terminal, onEnd: (code: number) => void): Command {
  const end = async (running: Promise<number>) => onEnd(await running);

  const vitrine = new Command('vitrine')
    .description('Make a product catalog searchable by its images.')
    .version(packageJson.version)
    .exitOverride()
    .configureOutput({
      writeOut: (text) => terminal.stdout.write(text),
      writeErr: (text) => terminal.stderr.write(text),
    })
    .showHelpAfterError('`vitrine --help` shows the commands, and `vitrine COMMAND --help` how one is used.')
    .addHelpText('after', '\nSettings come from the environment and from .env; see docs/configuration.md.');

  vitrine
    .command('serve')
    .description('Run the HTTP API, and a worker in the same process when no Redis is set')
    .option('--host <host>', 'address to listen on (HOST)')
    .option('-p, --port <port>', 'port to listen on (PORT)')
    .option('--worker', 'also run a worker in this process')
    .option('--no-worker', 'only answer requests')
    .addHelpText('after', examples('serve', 'serve --port 9000', 'serve --host 0.0.0.0 --no-worker'))
    .action(async (options) => {
      const { serveCommand } = await import('./serve.ts');
      await end(serveCommand(options, terminal));
    });

  vitrine
    .command('worker')
    .description('Run a worker: claim images, embed them and write them to the vector store')
    .option('--concurrency <n>', 'images fetched, and as many decoded, at the same time (WORKER_CONCURRENCY)')
    .option('--batch-size <n>', 'images per inference call (BATCH_SIZE)')
    .option('--once', 'end when the queue is empty; with exit code 1 when a job failed')
    .addHelpText('after', examples('worker', 'worker --concurrency 16', 'worker --once'))
    .action(async (options) => {
      const { workerCommand } = await import('./worker.ts');
      await end(workerCommand(options, terminal));
    });

  vitrine
    .command('index')
    .description('Index the images of a catalog or a folder, and wait until all are done')
    .argument('<path>', 'a catalog (.csv, .tsv, .jsonl), a folder of images, or one image')
    .addOption(serverOption())
    .addOption(keyFileOption())
    .addOption(
      new Option(
        '--decimal <mark>',
        "decimal mark of prices such as 1,234; default: that of the catalog's other prices, else point",
      ).choices(['point', 'comma'] as const),
    )
    .option('--json', 'print the outcome as JSON')
    .addHelpText(
      'after',
      `
A catalog has the columns product_id and image_path or image_url, and may have image_id, name,
description, category, brand, price, currency, tags and metadata. Relative paths start from its
folder. In a folder, the name of a file is the product's id, and its folder the category.

Jobs are sent to the running server; when none runs, this process does the work itself. Files under
IMAGE_ROOTS are sent as paths, others in the catalog's folder as bytes. The exit code is 1 when an
image could not be indexed, or will be retried later.
${examples('index catalog.csv', 'index ./photos', 'index feed.jsonl --server http://vitrine.internal:8000')}`,
    )
    .action(async (path, options) => {
      const { indexCommand } = await import('./index/index-command.ts');
      await end(indexCommand(path, options, terminal));
    });

  vitrine
    .command('search')
    .description('Show the products that look most like an image, a product or words')
    .argument('[image]', 'a file or an http(s) address; or use --product or --text')
    .option('--product <id>', 'search with an indexed product')
    .option('--text <words>', 'search with words, if the model has a text encoder')
    .option('-n, --limit <n>', 'how many products', parseInteger(1, 1_000), 10)
    .option('--category <name>', 'only this category; can be repeated', append, [])
    .option('--brand <name>', 'only this brand; can be repeated', append, [])
    .option('--tag <tag>', 'only with this tag; can be repeated', append, [])
    .option('--min-price <price>', 'only from this price on', parseNumber)
    .option('--max-price <price>', 'only up to this price', parseNumber)
    .option('--every-image', 'list each image instead of each product once')
    .addOption(serverOption())
    .addOption(keyFileOption())
    .addOption(jsonOption())
    .addHelpText(
      'after',
      examples(
        'search photo.jpg',
        'search https://example.com/lamp.jpg --category lamp --max-price 80',
        'search --product SKU-00001 -n 5 --json',
      ),
    )
    .action(async (image, options, command) => {
      const given = [image, options.product, options.text].filter((value) => value !== undefined);
      if (given.length !== 1) command.error('error: needs exactly one of [image], --product and --text');
      const { searchCommand } = await import('./search.ts');
      await end(searchCommand(image, options, terminal));
    });

  vitrine
    .command('stats')
    .description('Show how many jobs wait, run, have ended and have failed')
    .addOption(serverOption())
    .addOption(keyFileOption())
    .addOption(jsonOption())
    .addHelpText('after', examples('stats', 'stats --json | jq .total_pending'))
    .action(async (options) => {
      const { statsCommand } = await import('./queue.ts');
      await end(statsCommand(options, terminal));
    });

  vitrine
    .command('workers')
    .description('List the workers that are alive, with what they do and how fast')
    .addOption(serverOption())
    .addOption(keyFileOption())
    .addOption(jsonOption())
    .addHelpText('after', examples('workers', 'workers --json'))
    .action(async (options) => {
      const { workersCommand } = await import('./queue.ts');
      await end(workersCommand(options, terminal));
    });

  for (const [name, description] of [
    ['pause', 'Stop workers from claiming jobs until `vitrine resume`'],
    ['resume', 'Let workers claim jobs again'],
  ] as const) {
    vitrine
      .command(name)
      .description(description)
      .addOption(serverOption())
      .addOption(keyFileOption())
      .addHelpText('after', examples(name))
      .action(async (options) => {
        const { pauseCommand } = await import('./queue.ts');
        await end(pauseCommand(name, options, terminal));
      });
  }

  for (const [name, description] of [
    ['cancel', 'Cancel jobs: waiting ones at once, running ones at their next renewal'],
    ['retry', 'Put failed jobs back in the queue, with fresh attempts'],
  ] as const) {
    vitrine
      .command(name)
      .description(description)
      .argument('<job_id...>')
      .addOption(serverOption())
      .addOption(keyFileOption())
      .addHelpText('after', examples(`${name} 0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b`))
      .action(async (ids, options) => {
        const { jobsCommand } = await import('./queue.ts');
        await end(jobsCommand(name, ids, options, terminal));
      });
  }

  addDeadCommands(vitrine, terminal, end);
  addModelsCommands(vitrine, terminal, end);
  addKeysCommands(vitrine, terminal, end);

  vitrine
    .command('doctor')
    .description('Check Node, the settings, the folders, Redis, Qdrant, the model and the port')
    .option('--smoke', 'also index, find and delete one picture on the running server')
    .addOption(serverOption())
    .addOption(keyFileOption())
    .addHelpText(
      'after',
      `\nThe exit code is 1 when something keeps Vitrine from working.\n${examples('doctor', 'doctor --smoke')}`,
    )
    .action(async (options) => {
      const { doctorCommand } = await import('./doctor/doctor.ts');
      await end(doctorCommand(options, terminal));
    });

  return vitrine;
}

type End = (running: Promise<number>) => Promise<void>;

function addDeadCommands(vitrine: Command, terminal: Terminal, end: End): void {
  const dead = vitrine
    .command('dead')
    .description('List, redrive, purge or export the jobs that failed for good')
    .addHelpText(
      'after',
      examples('dead list --code image_not_found', 'dead redrive --all', 'dead export > dead.jsonl'),
    );

  dead
    .command('list')
    .description('Show them with their last error')
    .option('--code <code>', 'only those with this error code')
    .option('-n, --limit <n>', 'how many', parseInteger(1, 1_000), 20)
    .addOption(serverOption())
    .addOption(keyFileOption())
    .addOption(jsonOption())
    .action(async (options) => {
      const { listDead } = await import('./dead.ts');
      await end(listDead(options, terminal));
    });

  for (const [name, description] of [
    ['redrive', 'Put them back in the queue, with fresh attempts'],
    ['purge', 'Remove them for good'],
  ] as const) {
    dead
      .command(name)
      .description(description)
      .argument('[job_id...]')
      .option('--code <code>', 'all with this error code')
      .option('--all', 'all of them')
      .addOption(serverOption())
      .addOption(keyFileOption())
      .addOption(jsonOption())
      .action(async (ids, options, command) => {
        const given = [ids.length > 0, options.code !== undefined, options.all].filter(Boolean);
        if (given.length !== 1) command.error('error: needs exactly one of [job_id...], --code and --all');
        const { redriveDead, purgeDead } = await import('./dead.ts');
        await end((name === 'redrive' ? redriveDead : purgeDead)(ids, options, terminal));
      });
  }

  dead
    .command('export')
    .description('Write them to stdout, one JSON object per line')
    .option('--code <code>', 'only those with this error code')
    .addOption(serverOption())
    .addOption(keyFileOption())
    .action(async (options) => {
      const { exportDead } = await import('./dead.ts');
      await end(exportDead(options, terminal));
    });
}

function addModelsCommands(vitrine: Command, terminal: Terminal, end: End): void {
  const models = vitrine
    .command('models')
    .description('List, download, verify or remove the models that turn images into vectors')
    .addHelpText(
      'after',
      `\nMODEL says which model is used, and MODEL_HUB_URL names a mirror of the hub.\n${examples(
        'models list',
        'models pull clip-vit-base-patch32',
        'models verify builtin',
      )}`,
    );

  models
    .command('list')
    .description('Show every model, whether it is here, and when to choose it')
    .addOption(jsonOption())
    .action(async (options) => {
      const { listCommand } = await import('./models.ts');
      await end(listCommand(options, terminal));
    });

  models
    .command('pull')
    .description('Download a model into MODELS_DIR, or continue a download that was interrupted')
    .argument('<model>')
    .action(async (model) => {
      const { pullCommand } = await import('./models.ts');
      await end(pullCommand(model, terminal));
    });

  models
    .command('verify')
    .description('Compare the files of a model with what was published, and embed an image')
    .argument('<model>')
    .action(async (model) => {
      const { verifyCommand } = await import('./models.ts');
      await end(verifyCommand(model, terminal));
    });

  models
    .command('remove')
    .description('Delete what was downloaded of a model')
    .argument('<model>')
    .action(async (model) => {
      const { removeCommand } = await import('./models.ts');
      await end(removeCommand(model, terminal));
    });
}

function addKeysCommands(vitrine: Command, terminal: Terminal, end: End): void {
  const keys = vitrine
    .command('keys')
    .description('Make API keys, which the server asks for once it has one')
    .addHelpText(
      'after',
      examples('keys create shop --scope search', 'keys create importer --scope enqueue read'),
    );

  keys
    .command('create')
    .description('Print a new key, once, and the line to configure for the server')
    .argument('<name>', 'letters, digits, dots, dashes and underscores')
    .addOption(
      new Option('--scope <scope...>', 'what it may do; admin: everything')
        .choices(SCOPES)
        .makeOptionMandatory(),
    )
    .action(async (name, options) => {
      const { createKeyCommand } = await import('./keys.ts');
      await end(createKeyCommand(name, options.scope, terminal));
    });
}

const serverOption = () =>
  new Option('--server <url>', 'the Vitrine server; by default the one at HOST and PORT');

const keyFileOption = () =>
  new Option('--key-file <file>', 'a file with the API key for the server; by default VITRINE_API_KEY');

const jsonOption = () => new Option('--json', 'print the answer as JSON');

function examples(...lines: readonly string[]): string {
  return `\nExamples:\n${lines.map((line) => `  vitrine ${line}`).join('\n')}`;
}

const append = (value: string, values: readonly string[]): readonly string[] => [...values, value];

function parseInteger(min: number, max: number) {
  return (text: string): number => {
    const value = Number(text);
    if (Number.isInteger(value) && value >= min && value <= max) return value;
    throw new InvalidArgumentError(`It must be a whole number from ${min} to ${max}.`);
  };
}

function parseNumber(text: string): number {
  const value = Number(text);
  if (text.trim() !== '' && Number.isFinite(value)) return value;
  throw new InvalidArgumentError('It must be a number.');
}
