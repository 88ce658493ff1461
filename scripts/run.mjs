// Runs a TypeScript entry of this repository on the pinned Node, after installing what is missing.
// Plain JavaScript without dependencies: it must work on Node 20, before anything is installed.
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = join(dirname(fileURLToPath(import.meta.url)), '..');
const pinnedNode = join(
  root,
  'node_modules',
  'node',
  'bin',
  process.platform === 'win32' ? 'node.exe' : 'node',
);

/** True when node_modules holds every locked package in its locked version. */
function isInstalled() {
  const installedLock = join(root, 'node_modules', '.package-lock.json');
  if (!existsSync(installedLock) || !existsSync(pinnedNode)) return false;
  const installed = JSON.parse(readFileSync(installedLock, 'utf8')).packages;
  const locked = JSON.parse(readFileSync(join(root, 'package-lock.json'), 'utf8')).packages;
  return Object.entries(locked).every(
    ([path, entry]) => path === '' || entry.optional || installed[path]?.version === entry.version,
  );
}

function ensureInstalled() {
  if (isInstalled()) return;
  process.stderr.write('Installing the dependencies (once) …\n');
  const npm = process.platform === 'win32' ? 'npm.cmd' : 'npm';
  const { status } = spawnSync(npm, ['ci', '--no-audit', '--no-fund', '--loglevel=error'], {
    cwd: root,
    stdio: ['ignore', 2, 2],
    shell: process.platform === 'win32',
    // The GPU libraries of onnxruntime and the telemetry of swagger-ui-dist are not needed; npm older than 11 doesn't
    // know `allowScripts`, so their install scripts are turned off by variables of their own.
    env: { ...process.env, ONNXRUNTIME_NODE_INSTALL: 'skip', SCARF_ANALYTICS: 'false' },
  });
  if (status !== 0) {
    process.stderr.write(
      'npm ci failed: its messages are above. Check the network and run the command again.\n',
    );
    process.exit(status ?? 1);
  }
}

ensureInstalled();
const [entry, ...args] = process.argv.slice(2);
if (entry === undefined) {
  process.stderr.write('Usage: node scripts/run.mjs ENTRY.ts [ARG ...]\n');
  process.exit(2);
}
const child = spawn(pinnedNode, ['--disable-warning=ExperimentalWarning', join(root, entry), ...args], {
  stdio: 'inherit',
  env: {
    // Once a large block was freed, glibc keeps blocks up to that size instead of returning them, unless this is set.
    MALLOC_MMAP_THRESHOLD_: '1000000',
    // Freed blocks would lie spread over an arena per thread.
    MALLOC_ARENA_MAX: '2',
    // Compiled code is kept for the next start.
    NODE_COMPILE_CACHE: join(root, 'node_modules', '.cache', 'compile'),
    ...process.env,
  },
});
// A supervisor may signal this process alone, so it passes the signal on. When the whole process group got it, the
// child takes the second one for the same request (src/program.ts). A terminal always signals the whole group.
for (const signal of ['SIGTERM', 'SIGHUP']) process.on(signal, () => child.kill(signal));
process.on('SIGINT', () => {});
child.on('error', (error) => {
  process.stderr.write(`${error.message}\n`);
  process.exit(1);
});
child.on('exit', (code, signal) => {
  if (signal === null) process.exit(code ?? 1);
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
});
