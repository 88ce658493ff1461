// Checks what package-lock.json brings against scripts/shipped-packages.json, offline. With --write it updates the list of
// packages there; what may be shipped, and why, is written by hand.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

interface LockedPackage {
  /** Only where the folder has another name. */
  readonly name?: string;
  readonly version?: string;
  readonly license?: string;
  readonly integrity?: string;
  /** Absent for the registry; the address of anything else. */
  readonly resolved?: string;
  readonly link?: boolean;
  /** True for what is not shipped. */
  readonly dev?: boolean;
  readonly hasInstallScript?: boolean;
}

export interface LockFile {
  readonly packages: Readonly<Record<string, LockedPackage>>;
}

/** package.json, as far as it is checked. */
export interface Manifest {
  /** Whether a package's install script runs when this project is installed. */
  readonly allowScripts: Readonly<Record<string, boolean>>;
}

export interface ShippedPackages {
  /** SPDX expressions. */
  readonly licences: readonly string[];
  /** Shipped packages with an install script, and why it need not run. */
  readonly installScripts: Readonly<Record<string, string>>;
  /** `name@version` → licence, of all that is shipped. */
  readonly packages: Readonly<Record<string, string>>;
}

interface Found extends LockedPackage {
  readonly name: string;
}

const PROJECT = '';
const FOLDER = 'node_modules/';

function toPackages({ packages }: LockFile): readonly Found[] {
  return Object.entries(packages)
    .filter(([path]) => path !== PROJECT)
    .map(([path, locked]) => ({
      ...locked,
      name: locked.name ?? path.slice(path.lastIndexOf(FOLDER) + FOLDER.length),
    }));
}

const toId = ({ name, version }: Found) => `${name}@${version}`;
const isShipped = ({ dev }: Found) => dev !== true;

/** The list that the lock file makes, in order. */
export function toShippedList(lock: LockFile): Record<string, string> {
  const shipped = toPackages(lock).filter(isShipped);
  const entries = shipped.map((each) => [toId(each), each.license ?? 'none'] as const);
  return Object.fromEntries(entries.toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

/** What is wrong, in sentences; empty when all is well. */
export function findFaults(lock: LockFile, manifest: Manifest, allowed: ShippedPackages): readonly string[] {
  const all = toPackages(lock);
  const shipped = all.filter(isShipped);
  const listed = toShippedList(lock);
  const when = <T>(found: readonly T[], isFault: (each: T) => boolean, toText: (each: T) => string) =>
    found.filter(isFault).map(toText);
  return [
    ...when(
      all,
      ({ integrity }) => integrity?.startsWith('sha512-') !== true,
      (each) =>
        `${toId(each)} has no SHA-512 in package-lock.json: anything could be installed in its place.`,
    ),
    ...when(
      all,
      ({ resolved, link }) => resolved !== undefined || link === true,
      (each) => `${toId(each)} does not come from the registry.`,
    ),
    ...when(
      shipped,
      ({ license }) => license === undefined || !allowed.licences.includes(license),
      (each) => `${toId(each)} has the licence ${each.license ?? 'none'}, which is not on the list.`,
    ),
    ...when(
      shipped,
      ({ name, hasInstallScript }) => hasInstallScript === true && allowed.installScripts[name] === undefined,
      (each) => `${toId(each)} has an install script, and the list does not say why it need not run.`,
    ),
    ...when(
      all,
      ({ name, hasInstallScript }) => hasInstallScript === true && manifest.allowScripts[name] === undefined,
      (each) => `${toId(each)} has an install script, and allowScripts in package.json does not name it.`,
    ),
    ...when(
      shipped,
      ({ name }) => manifest.allowScripts[name] === true,
      (each) => `${toId(each)} is shipped, and its install script may run.`,
    ),
    ...when(
      Object.keys(allowed.installScripts),
      (name) => !shipped.some((each) => each.name === name && each.hasInstallScript === true),
      (name) => `The list explains an install script of ${name}, which has none.`,
    ),
    ...when(
      Object.entries(listed),
      ([id, licence]) => allowed.packages[id] !== licence,
      ([id, licence]) => `${id} (${licence}) is shipped, and is not on the list.`,
    ),
    ...when(
      Object.keys(allowed.packages),
      (id) => listed[id] === undefined,
      (id) => `${id} is on the list, and is not shipped.`,
    ),
  ];
}

if (import.meta.main) {
  const root = join(import.meta.dirname, '..');
  const listFile = join(import.meta.dirname, 'shipped-packages.json');
  const read = (file: string): unknown => JSON.parse(readFileSync(file, 'utf8'));
  const lock = read(join(root, 'package-lock.json')) as LockFile;
  let allowed = read(listFile) as ShippedPackages;
  if (process.argv.includes('--write')) {
    allowed = { ...allowed, packages: toShippedList(lock) };
    writeFileSync(listFile, `${JSON.stringify(allowed, null, 2)}\n`);
  }
  const faults = findFaults(lock, read(join(root, 'package.json')) as Manifest, allowed);
  for (const fault of faults) console.log(fault);
  if (faults.length > 0) {
    console.log('After looking at what is new: npm run check:deps -- --write updates the list of packages.');
    process.exitCode = 1;
  } else {
    console.log(`${Object.keys(allowed.packages).length} shipped packages are as listed.`);
  }
}
