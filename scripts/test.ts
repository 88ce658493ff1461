import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline/promises';
import { parseCLI, startVitest, type TestCase, type TestModule } from 'vitest/node';

const root = join(import.meta.dirname, '..');

interface Tally {
  passed: number;
  failed: number;
  skipped: number;
}

interface SystemProgram {
  readonly names: readonly string[];
  readonly debianPackage: string;
  readonly needed: boolean;
  readonly suites: string;
}

const PROGRAMS: readonly SystemProgram[] = [
  {
    names: ['redis-server'],
    debianPackage: 'redis-server',
    needed: true,
    suites: 'those on a real Redis',
  },
  {
    names: ['chromium', 'chromium-browser', 'google-chrome'],
    debianPackage: 'chromium',
    needed: existsSync(join(root, 'tests', 'browser')),
    suites: 'those in a browser (tests/browser)',
  },
];

const tally: Tally = { passed: 0, failed: 0, skipped: 0 };
for (const program of PROGRAMS) await ensureProgram(program);
runCheck('lint', 'node_modules/@biomejs/biome/bin/biome', ['check', '--error-on-warnings', '.']);
runCheck('types', 'node_modules/typescript/bin/tsc', ['--noEmit']);
runCheck('dependencies', 'scripts/check-deps.ts', []);
await runTests(process.argv.slice(2));
const skipped = tally.skipped > 0 ? `, ${tally.skipped} skipped` : '';
console.log(`\n${tally.passed} passed, ${tally.failed} failed${skipped}`);
// Not process.exitCode: vitest sets it too, and what a test left open must not keep us here.
process.exit(tally.failed > 0 ? 1 : 0);

/**
 * Installs the program where this user may, which is root on Debian; asks first when there is a terminal to ask on. Without
 * it, says which suites can't run.
 */
async function ensureProgram({ names, debianPackage, needed, suites }: SystemProgram): Promise<void> {
  if (!needed || names.some(isInstalled)) return;
  const [name = ''] = names;
  const mayInstall = process.getuid?.() === 0 && isInstalled('apt-get');
  if (mayInstall && (await isWanted(`${name} is missing. Install it with apt-get?`))) {
    if (installPackage(debianPackage)) return;
    console.log('apt-get could not install it.');
  }
  const how = `Install it with \`apt-get install ${debianPackage}\`.`;
  console.log(`Without ${name} these suites can't run: ${suites}. ${how}`);
}

async function isWanted(question: string): Promise<boolean> {
  if (!process.stdin.isTTY || !process.stdout.isTTY) return true;
  const terminal = createInterface({ input: process.stdin, output: process.stdout });
  const answer = await terminal.question(`${question} [Y/n] `);
  terminal.close();
  return !/^n/i.test(answer.trim());
}

function installPackage(name: string): boolean {
  console.log(`Installing ${name} (once) …`);
  const apt = (...args: string[]) =>
    spawnSync('apt-get', args, {
      stdio: ['ignore', 'ignore', 'inherit'],
      // The tests start their own server; the package's service must not take its port.
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive', RUNLEVEL: '1' },
    }).status === 0;
  const install = ['install', '-y', '-qq', '--no-install-recommends', name] as const;
  return apt(...install) || (apt('update', '-qq') && apt(...install));
}

function isInstalled(program: string): boolean {
  return spawnSync(program, ['--version'], { stdio: 'ignore' }).error === undefined;
}

/** A check that counts as one test. @param script its path from the root */
function runCheck(name: string, script: string, args: readonly string[]): void {
  const { status } = spawnSync(process.execPath, [join(root, script), ...args], {
    cwd: root,
    stdio: 'inherit',
  });
  console.log(`${status === 0 ? '✓' : '✗'} ${name}`);
  tally[status === 0 ? 'passed' : 'failed'] += 1;
}

async function runTests(args: readonly string[]): Promise<void> {
  const { filter, options } = parseCLI(['vitest', 'run', ...args], { allowUnknownOptions: false });
  const vitest = await startVitest('test', filter, { ...options, root, watch: false });
  const reasons = new Map<string, number>();
  const modules = vitest.state.getTestModules();
  // A name that matches no file must not look like success.
  if (modules.length === 0) tally.failed += 1;
  for (const module of modules) {
    for (const test of module.children.allTests()) countTest(test, reasons);
    if (didNotLoad(module)) tally.failed += 1;
  }
  tally.failed += vitest.state.getUnhandledErrors().length;
  await vitest.close();
  if (reasons.size > 0) console.log('Skipped:');
  for (const [reason, count] of reasons) console.log(`  ${count} × ${reason}`);
}

/** True for a file that failed outside its tests: an import or a hook that threw. */
function didNotLoad(module: TestModule): boolean {
  const failedTests = [...module.children.allTests('failed')].length;
  return module.state() === 'failed' && failedTests === 0;
}

function countTest(test: TestCase, reasons: Map<string, number>): void {
  const result = test.result();
  if (result.state === 'passed' || result.state === 'failed') {
    tally[result.state] += 1;
    return;
  }
  tally.skipped += 1;
  const note = result.state === 'skipped' ? result.note : undefined;
  const reason = `${test.module.relativeModuleId}: ${note ?? 'its file says why'}`;
  reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
}
