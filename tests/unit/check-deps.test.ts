import { expect, test } from 'vitest';
import { findFaults, type LockFile, toShippedList } from '../../scripts/check-deps.ts';

const good = { version: '1.0.0', license: 'MIT', integrity: 'sha512-x' };
const allowed = { licences: ['MIT'], installScripts: {}, packages: { 'a@1.0.0': 'MIT' } };
const toLock = (packages: LockFile['packages']): LockFile => ({ packages: { '': {}, ...packages } });

function check(packages: LockFile['packages'], over: object = {}, allowScripts = {}) {
  return findFaults(toLock(packages), { allowScripts }, { ...allowed, ...over });
}

test('packages as they are listed are fine, and so is what is only for development', () => {
  const dev = { ...good, license: 'GPL-3.0', dev: true };
  expect(check({ 'node_modules/a': good, 'node_modules/b': dev })).toEqual([]);
});

test('packages are listed by their own names, those in folders of others too', () => {
  const lock = toLock({
    'node_modules/old-name': { ...good, name: '@scope/new' },
    'node_modules/a/node_modules/@scope/b': { ...good, version: '2.0.0' },
  });
  expect(toShippedList(lock)).toEqual({ '@scope/b@2.0.0': 'MIT', '@scope/new@1.0.0': 'MIT' });
});

test.each([
  ['without a hash', { ...good, integrity: undefined }, 'has no SHA-512'],
  ['with a weak hash', { ...good, integrity: 'sha1-x' }, 'has no SHA-512'],
  ['of another licence', { ...good, license: 'GPL-3.0' }, 'which is not on the list'],
  ['without a licence', { ...good, license: undefined }, 'has the licence none'],
  ['of another version', { ...good, version: '1.0.1' }, 'a@1.0.1 (MIT) is shipped, and is not on the list'],
  [
    'from a repository',
    { ...good, resolved: 'git+ssh://example.com/a.git' },
    'does not come from the registry',
  ],
  ['with an install script', { ...good, hasInstallScript: true }, 'does not say why it need not run'],
] as const)('a shipped package %s is a fault', (_, locked, fault) => {
  expect(check({ 'node_modules/a': locked as typeof good }).join('\n')).toContain(fault);
});

test('an install script needs a reason, and must not run', () => {
  const packages = { 'node_modules/a': { ...good, hasInstallScript: true } };
  const installScripts = { a: 'It only says hello.' };
  expect(check(packages, { installScripts }, { a: false })).toEqual([]);
  expect(check(packages, { installScripts }, { a: true })).toEqual([
    'a@1.0.0 is shipped, and its install script may run.',
  ]);
  expect(check(packages, { installScripts }).join()).toContain(
    'allowScripts in package.json does not name it',
  );
});

test('what is only for development needs a hash too, and its install script a decision', () => {
  const dev = { version: '1.0.0', dev: true, hasInstallScript: true };
  expect(check({ 'node_modules/a': good, 'node_modules/b': dev })).toEqual([
    'b@1.0.0 has no SHA-512 in package-lock.json: anything could be installed in its place.',
    'b@1.0.0 has an install script, and allowScripts in package.json does not name it.',
  ]);
});

test('what is listed and no longer shipped is a fault', () => {
  expect(check({}, { installScripts: { a: 'It says hello.' } })).toEqual([
    'The list explains an install script of a, which has none.',
    'a@1.0.0 is on the list, and is not shipped.',
  ]);
});
