import { timingSafeEqual } from 'node:crypto';
import { readFileSync, unwatchFile, watchFile } from 'node:fs';
import { type ApiKey, hashApiKey, parseApiKeys } from '../../config/api-keys.ts';
import type { AccessConfig, Config } from '../../config/config.ts';
import { toConfigurationError } from '../../config/configuration-error.ts';
import { VitrineError } from '../../errors/vitrine-error.ts';
import type { Logger } from '../../observability/logger.ts';
import { isLoopback } from './host.ts';

/** The API keys that are valid now. */
export interface Keyring extends Disposable {
  /** False: there are none, and everyone may do everything. A file of keys that becomes empty lets nobody in. */
  readonly isRequired: boolean;
  /** The entry of the key, as it was sent. Takes the same time for every key, known or not. */
  find(key: string): ApiKey | null;
  findByName(name: string): ApiKey | null;
}

const FILE_POLL_MS = 1_000;

interface KnownKey {
  readonly entry: ApiKey;
  readonly hash: Buffer;
}

/**
 * Reads the keys, and their file again whenever it changes. A file that can't be read or parsed then leaves the keys
 * as they were.
 * @throws VitrineError `invalid_configuration` when the file can't be read or parsed at the start
 */
export function openKeyring(
  { keys, keysFile }: Pick<AccessConfig, 'keys' | 'keysFile'>,
  logger: Logger,
): Keyring {
  let known = toKnown(keys);
  const reload = () => {
    try {
      known = toKnown(readKeys(keysFile ?? ''));
      logger.info({ keys: known.map(({ entry }) => entry.name) }, 'API keys read');
    } catch (error) {
      logger.error({ error }, 'API keys could not be read again; those from before stay valid');
    }
  };
  if (keysFile !== undefined) {
    // A poll also sees a file that is replaced, or reached through a link that is, as Kubernetes does it.
    watchFile(keysFile, { interval: FILE_POLL_MS, persistent: false }, reload);
    try {
      known = toKnown(readKeys(keysFile));
    } catch (error) {
      unwatchFile(keysFile, reload);
      throw error;
    }
  }
  return {
    isRequired: keys.length > 0 || keysFile !== undefined,
    find(key) {
      const hash = toBytes(hashApiKey(key));
      let found: ApiKey | null = null;
      for (const each of known) if (timingSafeEqual(each.hash, hash)) found = each.entry;
      return found;
    },
    findByName: (name) => known.find(({ entry }) => entry.name === name)?.entry ?? null,
    [Symbol.dispose]() {
      if (keysFile !== undefined) unwatchFile(keysFile, reload);
    },
  };
}

/** @throws VitrineError `anonymous_not_allowed` where others than this machine could use an API without keys */
export function requireKeys(
  { host, access }: Pick<Config, 'host' | 'access'>,
  { isRequired }: Keyring,
): void {
  if (isRequired || access.allowAnonymous || isLoopback(host)) return;
  throw new VitrineError(
    'anonymous_not_allowed',
    `HOST ${host} lets others reach the API, and no API keys are set: set API_KEYS, or ALLOW_ANONYMOUS=true.`,
  );
}

const toBytes = (hash: string): Buffer => Buffer.from(hash, 'base64url');

const toKnown = (keys: readonly ApiKey[]): readonly KnownKey[] =>
  keys.map((entry) => ({ entry, hash: toBytes(entry.hash) }));

function readKeys(file: string): readonly ApiKey[] {
  try {
    return parseApiKeys(readFileSync(file, 'utf8'));
  } catch (error) {
    const isUnreadable = error instanceof Error && 'code' in error;
    const message =
      error instanceof Error && !isUnreadable ? error.message : "names a file that can't be read";
    throw toConfigurationError([{ path: 'API_KEYS_FILE', message }]);
  }
}
