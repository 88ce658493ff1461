import { Command, InvalidArgumentError, Option, type OptionValues } from '@commander-js/extra-typings';
import packageJson from '../../package.json' with { type: 'json' };
import { SCOPES } from '../config/scopes.ts';
import type { Box, PriceRange } from './search.ts';
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
      const { runWorker } = await import('../run-worker.ts');
      await end(runWorker(options, terminal.environment, terminal.signal));
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

  addFilters(
    vitrine
      .command('search')
      .description('Find products by an image, a product, words, or several of them')
      .argument('[image]', 'a file or an http(s) address')
      .option('--product <id>', 'like this indexed product')
      .option('--text <words>', 'words of its name, description, brand, category or tags')
      .option(
        '--weight <part=n>',
        'how much image, product, text or words counts; can be repeated',
        append,
        [],
      )
      .option('--crop <box>', 'only this part of the image: x,y,width,height from 0 to 1', parseCrop)
      .option('-n, --limit <n>', 'how many products; 0 for --facets alone', parseInteger(0, 1_000), 10)
      .option('--offset <n>', 'how many to leave out from the start', parseInteger(0, 999))
      .option('--min-score <score>', 'the least similarity, -1 to 1', parseNumber)
      .option('--diversify <n>', 'how much they should differ from each other, 0 to 1', parseNumber)
      .option('--exclude <id>', 'not this product; can be repeated', append, [])
      .option('--every-image', 'list each image instead of each product once')
      .option('--facets', 'also count the products that pass the filters, by category, brand and more')
      .option('--price-range <from..to>', 'a range to count for --facets; can be repeated', appendRange, []),
  )
    .addOption(serverOption())
    .addOption(keyFileOption())
    .addOption(jsonOption())
    .addHelpText(
      'after',
      examples(
        'search photo.jpg',
        'search --text "red mug"',
        'search https://example.com/lamp.jpg --text red --category lamp --max-price 80',
        'search --product SKU-00001 -n 5 --json',
        'search -n 0 --facets --price-range ..50 --price-range 50..',
      ),
    )
    .action(async (image, options, command) => {
      const given = [image, options.product, options.text].some((value) => value !== undefined);
      if (!given && options.limit > 0) command.error('error: needs [image], --product or --text');
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

  addProductsCommands(vitrine, terminal, end);
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

function addProductsCommands(vitrine: Command, terminal: Terminal, end: End): void {
  const products = vitrine
    .command('products')
    .description('List, show, change or delete indexed products, or find duplicates among them')
    .addHelpText(
      'after',
      examples(
        'products list --category lamp',
        'products show SKU-00001',
        'products update SKU-00001 --price 39.90 --unset tags',
        'products delete SKU-00001 --image side',
        'products duplicates --threshold 0.95',
      ),
    );

  addFilters(products.command('list').description('List the products, page by page'))
    .option('-n, --limit <n>', 'how many', parseInteger(1, 1_000), 20)
    .option('--cursor <cursor>', 'what the page before ended with')
    .addOption(serverOption())
    .addOption(keyFileOption())
    .addOption(jsonOption())
    .action(async (options) => {
      const { listProducts } = await import('./products.ts');
      await end(listProducts(options, terminal));
    });

  products
    .command('show')
    .description('Show a product with its images and its jobs')
    .argument('<product_id>')
    .addOption(serverOption())
    .addOption(keyFileOption())
    .addOption(jsonOption())
    .action(async (id, options) => {
      const { showProduct } = await import('./products.ts');
      await end(showProduct(id, options, terminal));
    });

  products
    .command('update')
    .description("Change a product's data; its images are not embedded again")
    .argument('<product_id>')
    .option('--name <text>', 'new name')
    .option('--description <text>', 'new description')
    .option('--category <name>', 'new category')
    .option('--brand <name>', 'new brand')
    .option('--price <price>', 'new price', parseNumber)
    .option('--currency <code>', 'new currency, as EUR')
    .option('--tag <tag>', 'new tag, in place of all it has; can be repeated', append, [])
    .option('--metadata <json>', 'keys to change, as {"stock": 4}; null removes one', parseObject)
    .option('--unset <field>', 'a field to remove; can be repeated', append, [])
    .addOption(serverOption())
    .addOption(keyFileOption())
    .addOption(jsonOption())
    .action(async (id, options) => {
      const { updateProduct } = await import('./products.ts');
      await end(updateProduct(id, options, terminal));
    });

  products
    .command('delete')
    .description('Delete products with their images and jobs')
    .argument('<product_id...>')
    .option('--image <id>', 'only this image of the product')
    .addOption(serverOption())
    .addOption(keyFileOption())
    .action(async (ids, options) => {
      const { deleteProducts } = await import('./products.ts');
      await end(deleteProducts(ids, options, terminal));
    });

  products
    .command('duplicates')
    .description('Show pictures that several products share, or nearly so')
    .option('--threshold <score>', 'the least similarity, 0.8 to 1', parseNumber)
    .option('-n, --limit <n>', 'how many groups', parseInteger(1, 1_000), 20)
    .addOption(serverOption())
    .addOption(keyFileOption())
    .addOption(jsonOption())
    .action(async (options) => {
      const { showDuplicates } = await import('./products.ts');
      await end(showDuplicates(options, terminal));
    });
}

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

/** The options that `toFilter` reads. */
function addFilters<Arguments extends unknown[], Options extends OptionValues>(
  command: Command<Arguments, Options>,
) {
  return command
    .option('--category <name>', 'only this category; can be repeated', append, [])
    .option('--brand <name>', 'only this brand; can be repeated', append, [])
    .option('--tag <tag>', 'only with this tag; can be repeated', append, [])
    .option('--currency <code>', 'only in this currency; can be repeated', append, [])
    .option('--min-price <price>', 'only from this price on', parseNumber)
    .option('--max-price <price>', 'only up to this price', parseNumber)
    .option('--filter <json>', 'more conditions, as {"metadata": {"color": "red"}}', parseObject);
}

const serverOption = () =>
  new Option('--server <url>', 'the Vitrine server; by default the one at HOST and PORT');

const keyFileOption = () =>
  new Option('--key-file <file>', 'a file with the API key for the server; by default VITRINE_API_KEY');

const jsonOption = () => new Option('--json', 'print the answer as JSON');

function examples(...lines: readonly string[]): string {
  return `\nExamples:\n${lines.map((line) => `  vitrine ${line}`).join('\n')}`;
}

function parseObject(text: string): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return { ...value };
  } catch {
    // Not JSON: the same as JSON of another kind.
  }
  throw new InvalidArgumentError('It must be a JSON object.');
}

function parseCrop(text: string): Box {
  const [x, y, width, height, ...others] = text.split(',').map(parseNumber);
  if (x === undefined || y === undefined || width === undefined || height === undefined || others.length > 0)
    throw new InvalidArgumentError('It must be x,y,width,height, as 0.25,0.25,0.5,0.5.');
  return { x, y, width, height };
}

/** From the first price on, up to the second one; either may be missing. */
function appendRange(text: string, ranges: readonly PriceRange[]): readonly PriceRange[] {
  const [from = '', to, ...others] = text.split('..');
  if (to === undefined || others.length > 0 || from + to === '')
    throw new InvalidArgumentError('It must be from..to, from.. or ..to, as 10..20.');
  const range = { ...(from !== '' && { gte: parseNumber(from) }), ...(to !== '' && { lt: parseNumber(to) }) };
  return [...ranges, range];
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
