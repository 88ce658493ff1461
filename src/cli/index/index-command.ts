import { openCatalog } from '../../catalog/read-catalog.ts';
import { type Config, parseConfig } from '../../config/config.ts';
import type { Context } from '../../context.ts';
import {
  type Client,
  connectServer,
  createClient,
  isAlive,
  type ServerOptions,
  toAddress,
} from '../client.ts';
import { print, printJson, type Terminal } from '../terminal.ts';
import { type IndexOptions, type IndexProgress, indexCatalog } from './index-catalog.ts';
import { showProgress } from './progress.ts';
import { printReport } from './report.ts';
import { withRetries } from './with-retries.ts';

interface Options extends ServerOptions {
  readonly decimal?: 'point' | 'comma' | undefined;
  readonly json?: boolean | undefined;
}

export async function indexCommand(path: string, options: Options, terminal: Terminal): Promise<number> {
  const { server, decimal, json } = options;
  const config = parseConfig(terminal.environment);
  const catalog = await openCatalog(path, { decimal });
  // Not the catalog's folder, even in this process: the worker that takes the jobs after a Ctrl+C must read them too.
  const sharedFolders = config.images.roots;
  const hasServer = server !== undefined || (await isAlive(toAddress(server, config)));
  const where = hasServer ? `at ${toAddress(server, config)}` : 'in this process';
  terminal.stderr.write(`Indexing ${path} ${where}\n`);

  const startedAt = performance.now();
  const run = (client: Client) => runIndex({ catalog, client, sharedFolders }, terminal);
  const progress = hasServer
    ? await run(await connectServer(options, terminal))
    : await withoutServer(config, terminal.signal, run);
  const seconds = (performance.now() - startedAt) / 1_000;

  const { total, enqueued, completed, failures, retriedLater } = progress;
  if (json)
    printJson(terminal, { total, enqueued, completed, failures, retried_later: retriedLater, seconds });
  else printReport(terminal, progress, seconds);
  return failures.length > 0 || retriedLater > 0 ? 1 : 0;
}

/** Indexes the catalog with a progress display. @throws VitrineError */
export async function runIndex(
  { catalog, client, sharedFolders }: Pick<IndexOptions, 'catalog' | 'client' | 'sharedFolders'>,
  terminal: Terminal,
): Promise<IndexProgress> {
  const { signal } = terminal;
  const display = showProgress(terminal);
  try {
    return await indexCatalog({
      catalog,
      client: withRetries(client, signal),
      sharedFolders,
      signal,
      onProgress: (progress) => display.update(progress),
    });
  } catch (error) {
    if (signal.aborted)
      print(terminal, 'Stopped. What was enqueued stays in the queue; the next worker takes it.');
    throw error;
  } finally {
    display.stop();
  }
}

/**
 * Runs the work with the API and a worker in this process. A worker that can't start ends it.
 * @throws VitrineError
 */
export async function withoutServer<T>(
  config: Config,
  signal: AbortSignal,
  work: (client: Client, context: Context) => Promise<T>,
): Promise<T> {
  const [{ createContext }, { createApp }, { createWorker }] = await Promise.all([
    import('../../context.ts'),
    import('../../http/app.ts'),
    import('../../../workers/worker.ts'),
  ]);
  // Log lines would stand between what the command prints, and failures reach it as answers.
  await using context = await createContext({
    ...config,
    log: { level: 'silent', file: config.log.file },
    // Nobody else can ask this one.
    access: { ...config.access, keys: [], keysFile: undefined },
  });
  const app = createApp(context);
  const client = createClient(
    'http://localhost',
    async (url, init) => app.fetch(new Request(url, init)),
    signal,
  );
  const worker = createWorker(context);
  const working = worker.run();
  try {
    const failed = working.then(() => Promise.withResolvers<never>().promise);
    return await Promise.race([work(client, context), failed]);
  } finally {
    worker.stop();
    await working.catch(() => undefined);
  }
}
