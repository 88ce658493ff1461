import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, readdir, rm, statfs, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { pino } from 'pino';
import { type Config, parseConfig } from '../../config/config.ts';
import type { Environment } from '../../config/env.ts';
import type { SettingName } from '../../config/settings.ts';
import { type Context, createContext } from '../../context.ts';
import { toVitrineError } from '../../errors/vitrine-error.ts';
import { openKeyring, requireKeys } from '../../http/access/keyring.ts';
import { isAlive, toAddress } from '../client.ts';

export interface CheckResult {
  readonly state: 'ok' | 'warn' | 'fail';
  readonly text: string;
  /** What the person should do. */
  readonly todo?: string;
}

export interface Check {
  readonly name: string;
  run(): Promise<CheckResult>;
}

const MIN_NODE = [22, 18] as const;
/** A store that takes longer to answer a ping is not usable. */
const STORE_MS = 5_000;
const LOW_DISK_BYTES = 1_000_000_000;

/** What Vitrine needs from its surroundings, in the order of the report. With faulty settings, only these are reported. */
export function createChecks(environment: Environment): readonly Check[] {
  const node = { name: 'node', run: async () => checkNode(process.versions.node) };
  let config: Config;
  try {
    const given = parseConfig(environment);
    config = {
      ...given,
      store: { ...given.store, timeoutMs: Math.min(given.store.timeoutMs, STORE_MS) },
      // A check downloads nothing: what is missing is what it should find.
      model: { ...given.model, offline: true },
    };
  } catch (error) {
    const settings = toFailure(error);
    return [node, { name: 'settings', run: async () => settings }];
  }
  return [
    node,
    { name: 'data', run: () => checkFolder(config.dataDir, 'DATA_DIR') },
    { name: 'thumbnails', run: () => checkThumbnails(config.thumbnails) },
    { name: 'images', run: () => checkImageRoots(config.images.roots) },
    { name: 'queue', run: () => checkPart(config, checkQueue) },
    { name: 'store', run: () => checkPart(config, checkStore) },
    { name: 'model', run: () => checkPart(config, checkModel) },
    { name: 'access', run: async () => checkAccess(config) },
    { name: 'port', run: () => checkPort(config) },
  ];
}

function checkNode(version: string): CheckResult {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (major > MIN_NODE[0] || (major === MIN_NODE[0] && minor >= MIN_NODE[1]))
    return { state: 'ok', text: `Node ${version}` };
  const todo = `Use Node ${MIN_NODE.join('.')} or later, or the npm scripts, which bring their own.`;
  return { state: 'fail', text: `Node ${version} is too old.`, todo };
}

async function checkFolder(folder: string, setting: SettingName): Promise<CheckResult> {
  const probe = join(folder, `.doctor-${randomUUID()}`);
  try {
    await mkdir(folder, { recursive: true });
    await writeFile(probe, 'x');
    await rm(probe);
  } catch {
    return {
      state: 'fail',
      text: `${folder} can't be written to.`,
      todo: `Set ${setting} to a folder that can.`,
    };
  }
  const { bavail, bsize } = await statfs(folder);
  const free = `${((bavail * bsize) / 1e9).toFixed(1)} GB free`;
  return bavail * bsize < LOW_DISK_BYTES
    ? { state: 'warn', text: `${folder} has only ${free}.`, todo: `Make room, or set ${setting} elsewhere.` }
    : { state: 'ok', text: `${folder} is writable, ${free}` };
}

/** Everything else works without thumbnails. */
async function checkThumbnails({ folder, maxBytes }: Config['thumbnails']): Promise<CheckResult> {
  if (maxBytes === 0) return { state: 'ok', text: 'none are kept: THUMBNAIL_CACHE_MAX_MB is 0' };
  const result = await checkFolder(folder, 'THUMBNAIL_CACHE_DIR');
  return result.state === 'fail' ? { ...result, state: 'warn' } : result;
}

async function checkImageRoots(roots: readonly string[]): Promise<CheckResult> {
  if (roots.length === 0)
    return { state: 'ok', text: 'no IMAGE_ROOTS: images come by URL or as bytes, not by path' };
  for (const root of roots) {
    const readable = await readdir(root).then(
      () => true,
      () => false,
    );
    if (!readable)
      return {
        state: 'fail',
        text: `${root} can't be read.`,
        todo: 'Correct IMAGE_ROOTS, or make the folder readable.',
      };
  }
  return { state: 'ok', text: roots.join(', ') };
}

/** As the server does when it starts. */
function checkAccess(config: Config): CheckResult {
  try {
    using keyring = openKeyring(config.access, pino({ level: 'silent' }));
    requireKeys(config, keyring);
    if (keyring.isRequired) return { state: 'ok', text: 'requests need an API key' };
    return config.access.allowAnonymous
      ? { state: 'warn', text: 'everyone who reaches the API may do everything (ALLOW_ANONYMOUS)' }
      : { state: 'ok', text: 'no API keys: only this machine can use the API' };
  } catch (error) {
    return toFailure(error);
  }
}

/** Runs the check with a context of its own, and adds what its parts warn about when they are opened. */
async function checkPart(
  config: Config,
  check: (context: Context) => Promise<CheckResult>,
): Promise<CheckResult> {
  const warnings: string[] = [];
  const sink = new Writable({
    write(line, _encoding, done) {
      warnings.push(toMessage(String(line)));
      done();
    },
  });
  try {
    await using context = await createContext(config, { logger: pino({ level: 'warn' }, sink) });
    const result = await check(context);
    if (result.state !== 'ok' || warnings.length === 0) return result;
    const todo = 'docs/configuration.md says how Redis should be set up.';
    return { state: 'warn', text: `${result.text}; ${warnings.join('; ')}`, todo };
  } catch (error) {
    return toFailure(error);
  }
}

function toFailure(error: unknown): CheckResult {
  const { message, suggestion } = toVitrineError(error);
  return { state: 'fail', text: message, todo: suggestion.replace(' `vitrine doctor` shows more.', '') };
}

function toMessage(line: string): string {
  const entry: unknown = JSON.parse(line);
  return typeof entry === 'object' && entry !== null && 'msg' in entry ? String(entry.msg) : '';
}

async function checkQueue({ config, queue }: Context): Promise<CheckResult> {
  await queue.ping();
  const kind = config.queue.redis === undefined ? 'SQLite' : 'Redis';
  const [stats, workers] = await Promise.all([queue.stats(), queue.workers()]);
  const { high, normal, low } = stats.waiting;
  const pending = high + normal + low + stats.delayed + stats.processing;
  return { state: 'ok', text: `${kind} answers; ${pending} jobs pending, ${workers.length} workers alive` };
}

async function checkStore({ config, store }: Context): Promise<CheckResult> {
  await store.ping();
  const kind = config.store.qdrantUrl === undefined ? 'SQLite' : 'Qdrant';
  const model = await store.collectionModel();
  const text =
    model === null
      ? `${kind} answers; the first worker will create the collection ${store.collection}`
      : `${kind} answers; ${store.collection} has ${await store.count()} images of ${model.id}`;
  return { state: 'ok', text };
}

async function checkModel({ embedder, store }: Context): Promise<CheckResult> {
  const startedAt = performance.now();
  const { id, dimension, fingerprint } = await embedder.start();
  const ms = Math.round(performance.now() - startedAt);
  // A store that is down is another check's finding.
  const stored = await store.collectionModel().catch(() => null);
  if (stored === null || (stored.id === id && stored.fingerprint === fingerprint))
    return { state: 'ok', text: `${id}: ${dimension} dimensions, loaded in ${ms} ms` };
  const other = stored.id === id ? `${id} with other weights or preprocessing` : stored.id;
  return {
    state: 'fail',
    text: `MODEL is ${id}, but the collection ${store.collection} holds vectors of ${other}.`,
    todo: "Set MODEL to the collection's model, or QDRANT_COLLECTION to a new name.",
  };
}

async function checkPort({ host, port }: Config): Promise<CheckResult> {
  const server = createServer().listen(port, host);
  try {
    await once(server, 'listening');
    return { state: 'ok', text: `${port} on ${host} is free` };
  } catch {
    const address = toAddress(undefined, { host, port });
    if (await isAlive(address)) return { state: 'ok', text: `Vitrine runs at ${address}` };
    return {
      state: 'fail',
      text: `Vitrine can't listen on port ${port} of ${host}: another program uses it, or this user may not.`,
      todo: 'Stop the other program, or set PORT (and HOST) to others.',
    };
  } finally {
    server.close();
  }
}
