import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { stripTypeScriptTypes } from 'node:module';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';

/** A file of the page as it is sent. */
export interface Asset {
  readonly type: string;
  readonly body: Buffer<ArrayBuffer>;
  readonly gzipped: Buffer<ArrayBuffer>;
}

export interface DashboardAssets {
  /** Of everything together: it changes when any file does. */
  readonly version: string;
  /** By their paths below the version. */
  readonly files: ReadonlyMap<string, Asset>;
  /** The modules that the entries need, themselves included. What is imported later, when it is needed, is not here. */
  readonly modules: readonly string[];
}

const FOLDER = join(import.meta.dirname, '..', 'dashboard');

export const STYLESHEET = 'styles.css';

/** The libraries of the page, from node_modules, and the names under which they are served. */
const LIBRARIES: Readonly<Record<string, string>> = {
  preact: 'lib/preact.js',
  'preact/hooks': 'lib/preact-hooks.js',
  '@preact/signals': 'lib/signals.js',
  '@preact/signals-core': 'lib/signals-core.js',
  htm: 'lib/htm.js',
};

/**
 * Everything that the page loads. Its TypeScript is sent without its types, its stylesheets as one, and imports of
 * libraries become imports of the paths under which they are served: an import map would have to be an inline script.
 */
export function readDashboardAssets(entries: readonly string[]): DashboardAssets {
  const scripts = new Map<string, string>();
  const styles: string[] = [];
  const files = new Map<string, Asset>();
  for (const [name, path] of Object.entries(LIBRARIES)) {
    const source = readFileSync(fileURLToPath(import.meta.resolve(name)), 'utf8');
    scripts.set(path, toServedImports(path, source));
  }
  for (const file of readdirSync(FOLDER, { recursive: true, encoding: 'utf8' }).toSorted()) {
    const path = file.replaceAll('\\', '/');
    const read = () => readFileSync(join(FOLDER, file), 'utf8');
    if (path.endsWith('.css')) styles.push(read());
    if (path.endsWith('.svg')) files.set(path, toAsset('image/svg+xml', read()));
    if (path.endsWith('.ts')) scripts.set(path, toServedImports(path, stripTypeScriptTypes(read())));
  }
  files.set(STYLESHEET, toAsset('text/css', styles.join('\n')));
  for (const [path, source] of scripts) files.set(path, toAsset('text/javascript', source));
  const modules = new Set(entries);
  // Grows while it is gone through.
  for (const path of modules) for (const each of importsOf(path, scripts.get(path) ?? '')) modules.add(each);
  return { version: toVersion(files), files, modules: [...modules].filter((path) => scripts.has(path)) };
}

/** The name of a module in an import or an export of it; `import()` is not one of them. */
const IMPORTS = /(\bfrom\s*|\bimport\s*)(["'])([@a-z.][^"'\n]*)\2/g;

function toServedImports(path: string, source: string): string {
  const toTop = '../'.repeat(path.split('/').length - 1) || './';
  return source
    .replace(IMPORTS, (all, keyword: string, quote: string, name: string) => {
      const library = LIBRARIES[name];
      return library === undefined ? all : `${keyword}${quote}${toTop}${library}${quote}`;
    })
    .replace(/^\/\/# sourceMappingURL=.*$/gm, '');
}

/** What the module imports before it runs, as paths. */
function importsOf(path: string, served: string): readonly string[] {
  const here = new URL(path, 'file:///');
  return [...served.matchAll(IMPORTS)].map(([, , , name = '']) => new URL(name, here).pathname.slice(1));
}

function toAsset(type: string, text: string): Asset {
  const body = Buffer.from(text);
  return { type, body, gzipped: gzipSync(body, { level: 9 }) };
}

function toVersion(files: ReadonlyMap<string, Asset>): string {
  const hash = createHash('sha256');
  for (const [path, { body }] of files) hash.update(path).update('\0').update(body).update('\0');
  return hash.digest('base64url').slice(0, 16);
}
