import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { globSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import type { Measured } from './measured.ts';

/** Real photos and models lie here on some machines; options name others. */
export const SHARED = join(import.meta.dirname, '../../../shared');

/** As many of the folder's photos as are asked for, from all over it; some twice where there are too few. */
export function listPhotos(folder: string, count: number): readonly string[] {
  const files = globSync('**/*.{jpg,jpeg,png,webp}', { cwd: folder }).sort();
  if (files.length === 0) throw new Error(`There are no photos in ${folder}.`);
  return Array.from({ length: count }, (_, index) => join(folder, files[(index * 7) % files.length] ?? ''));
}

/** Runs a program of its own that reads its options from stdin and prints what it measured. */
export async function runProgram(
  file: string,
  options: object,
  environment: Readonly<Record<string, string>> = {},
): Promise<Measured> {
  const child = spawn(process.execPath, [...process.execArgv, file], {
    env: { ...process.env, ...environment },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  child.stdin.end(JSON.stringify(options));
  const lines = (await text(child.stdout)).trim().split('\n');
  return JSON.parse(lines.at(-1) ?? '') as Measured;
}

/** Qdrant's double in a process of its own. */
export async function startStoreDouble(): Promise<
  AsyncDisposable & { readonly url: string; readonly process: ChildProcess }
> {
  const child = spawn(process.execPath, [join(import.meta.dirname, 'store-double.ts')], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  return {
    url: line.toString().trim(),
    process: child,
    async [Symbol.asyncDispose]() {
      child.stdin.end();
      await once(child, 'close');
    },
  };
}
