import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';

const root = join(import.meta.dirname, '../..');

const FORBIDDEN = [
  ['src/config/x.ts', '../queue/port.ts'],
  ['src/errors/x.ts', '../catalog/product-image.ts'],
  ['src/catalog/x.ts', '../queue/port.ts'],
  ['src/images/x.ts', '../catalog/record.ts'],
  ['models/x.ts', '../src/vectors/port.ts'],
  ['src/queue/x.ts', './redis/queue.ts'],
  ['src/queue/redis/x.ts', '../sqlite/queue.ts'],
  ['src/queue/spool/x.ts', '../redis/queue.ts'],
  ['src/vectors/qdrant/x.ts', '../sqlite/vector-store.ts'],
  ['src/vectors/sqlite/x.ts', '../../queue/port.ts'],
  ['src/routing/x.ts', '../jobs/schemas.ts'],
  ['src/jobs/x.ts', '../search/schemas.ts'],
  ['src/search/x.ts', '../context.ts'],
  ['src/thumbnails/x.ts', '../products/routes.ts'],
  ['src/images/x.ts', '../thumbnails/cache.ts'],
  ['src/webhooks/x.ts', '../jobs/batch.ts'],
  ['src/jobs/x.ts', '../webhooks/routes.ts'],
  ['src/http/x.ts', '../../workers/worker.ts'],
  ['src/http/x.ts', '../cli/client.ts'],
  ['workers/x.ts', '../src/http/app.ts'],
  ['workers/x.ts', '../src/context.ts'],
  ['src/context.ts', './http/server.ts'],
  ['src/cli/x.ts', '../../tests/support/until.ts'],
] as const;

const ALLOWED = [
  ['src/config/x.ts', '../errors/vitrine-error.ts'],
  ['src/queue/x.ts', '../catalog/product-image.ts'],
  ['src/queue/redis/x.ts', '../port.ts'],
  ['src/queue/spool/x.ts', '../../sqlite/database.ts'],
  ['src/vectors/sqlite/x.ts', '../../sqlite/database.ts'],
  ['models/x.ts', '../src/observability/logger.ts'],
  ['models/embedding/x.ts', '../files/model-folder.ts'],
  ['src/jobs/x.ts', '../queue/port.ts'],
  ['src/http/x.ts', '../jobs/schemas.ts'],
  ['src/http/x.ts', '../../models/embedder.ts'],
  ['src/webhooks/x.ts', '../jobs/wire.ts'],
  ['workers/x.ts', '../src/queue/port.ts'],
  ['workers/x.ts', '../src/webhooks/sender.ts'],
  ['workers/x.ts', '../src/thumbnails/cache.ts'],
  ['src/products/x.ts', '../thumbnails/thumbnails.ts'],
  ['workers/main.ts', '../src/context.ts'],
  ['src/cli/x.ts', '../../workers/worker.ts'],
  ['src/queue/x.ts', 'node:http'],
] as const;

test('the linter refuses an import against the direction, and no other', () => {
  const folder = mkdtempSync(join(tmpdir(), 'vitrine-imports-'));
  onTestFinished(() => rmSync(folder, { recursive: true }));
  for (const file of ['biome.json', 'biome.imports.json']) cpSync(join(root, file), join(folder, file));
  const files = [...FORBIDDEN, ...ALLOWED].map(([path, module], index) => {
    const file = path.replace('x.ts', `example-${index}.ts`);
    mkdirSync(join(folder, dirname(file)), { recursive: true });
    writeFileSync(join(folder, file), `import { x } from '${module}';\nx();\n`);
    return file;
  });
  const biome = join(root, 'node_modules/@biomejs/biome/bin/biome');
  const args = [
    'lint',
    '--only=style/noRestrictedImports',
    '--vcs-enabled=false',
    '--max-diagnostics=none',
    '.',
  ];
  const { stderr } = spawnSync(process.execPath, [biome, ...args], { cwd: folder, encoding: 'utf8' });
  const refused = Array.from(stderr.matchAll(/^(\S+\.ts):\d+:\d+ lint/gm), ([, file]) => file);
  expect(refused.toSorted()).toEqual(files.slice(0, FORBIDDEN.length).toSorted());
});
