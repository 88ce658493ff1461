import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, readdir, rm, statfs, writeFile } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { pino } from 'pino';
import { type Config, parseConfig } from '../config/config.ts';
import type { Environment } from '../config/env.ts';
import { toVitrineError } from '../errors/vitrine-error.ts';
import { isVitrine } from './client.ts';

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
const SILENT = pino({ level: 'silent' });
/** A store that needs longer for a ping is no good one. */
const STORE_MS = 5_000;
const LOW_DISK_BYTES = 1_000_000_000;

/** What Vitrine needs of its surroundings, in the order of the report. With faulty settings, only as far as they go. */
export function createChecks(environment: Environment): readonly Check[] {
  const node = { name: 'node', run: async () => checkNode(process.versions.node) };
  let config: Config;
  try {
    const given = parseConfig(environment);
    config = {
      ...given,
      store: { ...given.store, timeoutMs: Math.min(given.store.timeoutMs, STORE_MS) },
      // A check downloads nothing: what is missing is what it is to find.
      model: { ...given.model, offline: true },
    };
  } catch (error) {
    const { message, suggestion } = toVitrineError(error);
    const settings: CheckResult = { state: 'fail', text: message, todo: suggestion };
    return [node, { name: 'settings', run: async () => settings }];
  }
  return [
    node,
    { name: 'data', run: () => checkDataFolder(config.dataDir) },
    { name: 'images', run: () => checkImageRoots(config.images.roots) },
    { name: 'queue', run: () => orFailure(() => checkQueue(config)) },
    { name: 'store', run: () => orFailure(() => checkStore(config)) },
    { name: 'model', run: () => orFailure(() => checkModel(config)) },
    { name: 'port', run: () => checkPort(config.host, config.port) },
  ];
}

export function checkNode(version: string): CheckResult {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  if (major > MIN_NODE[0] || (major === MIN_NODE[0] && minor >= MIN_NODE[1]))
    return { state: 'ok', text: `Node ${version}` };
  const todo = `Use Node ${MIN_NODE.join('.')} or later, or the npm scripts, which bring their own.`;
  return { state: 'fail', text: `Node ${version} is too old.`, todo };
}

async function checkDataFolder(folder: string): Promise<CheckResult> {
  const probe = join(folder, `.doctor-${randomUUID()}`);
  try {
    await mkdir(folder, { recursive: true });
    await writeFile(probe, 'x');
    await rm(probe);
  } catch {
    return {
      state: 'fail',
      text: `${folder} can't be written to.`,
      todo: 'Set DATA_DIR to a folder that can.',
    };
  }
  const { bavail, bsize } = await statfs(folder);
  const free = `${((bavail * bsize) / 1e9).toFixed(1)} GB free`;
  return bavail * bsize < LOW_DISK_BYTES
    ? { state: 'warn', text: `${folder} has only ${free}.`, todo: 'Make room, or set DATA_DIR elsewhere.' }
    : { state: 'ok', text: `${folder} is writable, ${free}` };
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

/** What a check of a part found; a failure to make or reach the part is its finding too. */
async function orFailure(check: () => Promise<CheckResult>): Promise<CheckResult> {
  try {
    return await check();
  } catch (error) {
    const { message, suggestion } = toVitrineError(error);
    return { state: 'fail', text: message, todo: suggestion.replace('; `vitrine doctor` tells more', '') };
  }
}

async function checkQueue(config: Config): Promise<CheckResult> {
  // What the backend warns of when it starts is what a person should hear of here.
  const warnings: string[] = [];
  const sink = new Writable({
    write(chunk, _encoding, done) {
      warnings.push(toMessage(String(chunk)));
      done();
    },
  });
  const { createBackend } = await import('../context.ts');
  await using backend = await createBackend(config, pino({ level: 'warn' }, sink));
  await backend.queue.ping();
  const kind = config.queue.redisUrl === undefined ? 'SQLite' : 'Redis';
  const [stats, workers] = await Promise.all([backend.queue.stats(), backend.registry.list()]);
  const { high, normal, low } = stats.waiting;
  const pending = high + normal + low + stats.delayed + stats.processing;
  const text = `${kind} answers; ${pending} jobs pending, ${workers.length} workers alive`;
  const [warning] = warnings;
  if (warning === undefined) return { state: 'ok', text };
  const todo = 'Set `appendonly yes` in Redis, so that it keeps jobs when it ends.';
  return { state: 'warn', text: `${text}; ${warning}`, todo };
}

function toMessage(line: string): string {
  const entry: unknown = JSON.parse(line);
  return typeof entry === 'object' && entry !== null && 'msg' in entry ? String(entry.msg) : '';
}

async function checkStore(config: Config): Promise<CheckResult> {
  const { createStore } = await import('../context.ts');
  await using store = createStore(config, SILENT);
  await store.ping();
  const kind = config.store.qdrantUrl === undefined ? 'SQLite' : 'Qdrant';
  const model = await store.collectionModel();
  const text =
    model === null
      ? `${kind} answers; the collection ${store.collection} will be made by the first worker`
      : `${kind} answers; ${store.collection} has ${await store.count()} images of ${model.id}`;
  return { state: 'ok', text };
}

async function checkModel(config: Config): Promise<CheckResult> {
  const { createEmbedder, createStore } = await import('../context.ts');
  const startedAt = performance.now();
  await using store = createStore(config, SILENT);
  await using embedder = await createEmbedder(config, store, SILENT);
  await embedder.start();
  const { id, dimension, fingerprint } = embedder.model;
  const ms = Math.round(performance.now() - startedAt);
  // A store that is away is another check's finding.
  const stored = await store.collectionModel().catch(() => null);
  if (stored === null || (stored.id === id && stored.fingerprint === fingerprint))
    return { state: 'ok', text: `${id}: ${dimension} dimensions, loaded in ${ms} ms` };
  const how = stored.id === id ? `${id} with other weights or preprocessing` : stored.id;
  return {
    state: 'fail',
    text: `MODEL is ${id}, but the collection ${store.collection} holds vectors of ${how}.`,
    todo: "Set MODEL to the collection's model, or QDRANT_COLLECTION to a new name.",
  };
}

async function checkPort(host: string, port: number): Promise<CheckResult> {
  const server = createServer().listen(port, host);
  try {
    await once(server, 'listening');
    return { state: 'ok', text: `${port} on ${host} is free` };
  } catch {
    const shown = host.includes(':') ? `[${host}]` : host;
    if (await isVitrine(`http://${shown}:${port}`))
      return { state: 'ok', text: `Vitrine runs at http://${shown}:${port}` };
    return {
      state: 'fail',
      text: `${port} on ${host} can't be listened on: another program has it, or this user may not.`,
      todo: 'Stop the other program, or set PORT (and HOST) to others.',
    };
  } finally {
    server.close();
  }
}
