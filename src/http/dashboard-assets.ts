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
  readonly etag: string;
}

const FOLDER = join(import.meta.dirname, '..', 'dashboard');

/** The libraries of the page, from node_modules, and the names under which they are served. */
const LIBRARIES: Readonly<Record<string, string>> = {
  preact: '/dashboard/lib/preact.js',
  'preact/hooks': '/dashboard/lib/preact-hooks.js',
  '@preact/signals': '/dashboard/lib/signals.js',
  '@preact/signals-core': '/dashboard/lib/signals-core.js',
  htm: '/dashboard/lib/htm.js',
};

/**
 * Everything that the page loads, by path. Its TypeScript is sent without its types, and imports of libraries become
 * imports of the paths under which they are served: an import map would have to be an inline script.
 */
export function readDashboardAssets(): ReadonlyMap<string, Asset> {
  const assets = new Map<string, Asset>();
  for (const [name, path] of Object.entries(LIBRARIES)) {
    const source = readFileSync(fileURLToPath(import.meta.resolve(name)), 'utf8');
    assets.set(path, toAsset('text/javascript', toServedImports(source)));
  }
  for (const file of readdirSync(FOLDER, { recursive: true, encoding: 'utf8' })) {
    const path = `/dashboard/${file.replaceAll('\\', '/')}`;
    const source = () => readFileSync(join(FOLDER, file), 'utf8');
    if (file.endsWith('.css')) assets.set(path, toAsset('text/css', source()));
    if (file.endsWith('.svg')) assets.set(path, toAsset('image/svg+xml', source()));
    if (file.endsWith('.ts'))
      assets.set(path, toAsset('text/javascript', toServedImports(stripTypeScriptTypes(source()))));
  }
  return assets;
}

const IMPORTS = /(\bfrom\s*|\bimport\s*)(["'])([@a-z][^"'\n]*)\2/g;

function toServedImports(source: string): string {
  return source
    .replace(IMPORTS, (all, keyword: string, quote: string, name: string) => {
      const path = LIBRARIES[name];
      return path === undefined ? all : `${keyword}${quote}${path}${quote}`;
    })
    .replace(/^\/\/# sourceMappingURL=.*$/gm, '');
}

function toAsset(type: string, text: string): Asset {
  const body = Buffer.from(text);
  const etag = `"${createHash('sha256').update(body).digest('base64url').slice(0, 22)}"`;
  return { type, body, gzipped: gzipSync(body), etag };
}
