import { VitrineError } from '../errors/vitrine-error.ts';

/** What every connection is opened with; `tls` is present when it is encrypted. */
export interface RedisAccess {
  readonly username?: string;
  readonly password?: string;
  readonly tls?: Record<string, never>;
}

export interface RedisAddress {
  readonly host: string;
  readonly port: number;
}

export interface RedisServer extends RedisAccess, RedisAddress {
  readonly db: number;
}

export interface RedisSentinels extends RedisAccess {
  /** What the Sentinels call the master. */
  readonly name: string;
  readonly sentinels: RedisAddress[];
  readonly db: number;
  readonly sentinelUsername?: string;
  readonly sentinelPassword?: string;
  readonly sentinelTLS?: Record<string, never>;
  readonly enableTLSForSentinelMode?: boolean;
}

/** Where Redis is: one server, a master that Sentinels know, or a Cluster. The options are those of ioredis. */
export type RedisTarget =
  | { readonly kind: 'single'; readonly options: RedisServer }
  | { readonly kind: 'sentinel'; readonly options: RedisSentinels }
  | { readonly kind: 'cluster'; readonly nodes: RedisAddress[]; readonly options: RedisAccess };

const FORM = /^redis(s?)(?:\+(sentinel|cluster))?:\/\/(?:([^@/]*)@)?([^/?#]+)(?:\/([^?#]*))?$/;
const FORMS =
  'redis://[user:password@]host:port/db, rediss:// for TLS, redis+sentinel://[user:password@]host:port,host:port/master-name/db, redis+cluster://[user:password@]host:port,host:port';

/**
 * Reads the address of Redis. Forms (each with `rediss` for TLS):
 * `redis://[user:password@]host[:port][/db]`,
 * `redis+sentinel://[user:password@]host[:port],…/master-name[/db]` (the user and password are the master's and
 * the Sentinels'), `redis+cluster://[user:password@]host[:port],…`. User and password are percent-encoded.
 *
 * @throws VitrineError `invalid_configuration`; its message holds no part of the address
 */
export function parseRedisUrl(text: string): RedisTarget {
  const match = FORM.exec(text);
  if (match === null) throw invalid('REDIS_URL is not an address of Redis');
  const [, secure, form, userInfo, hosts = '', path = ''] = match;
  const base: RedisAccess = {
    ...parseUserInfo(userInfo),
    ...(secure === 's' ? { tls: {} } : {}),
  };
  const parts = path.split('/').filter((part) => part !== '');
  if (form === 'cluster') {
    if (parts.length > 0) throw invalid('A Redis Cluster has no databases: leave out the path');
    const nodes = hosts.split(',').map((host) => parseHost(host, 6379));
    return { kind: 'cluster', nodes, options: base };
  }
  if (form === 'sentinel') {
    const [name, db, ...rest] = parts;
    if (name === undefined || rest.length > 0)
      throw invalid('The path must be the master name that the Sentinels know');
    const { username, password, tls } = base;
    return {
      kind: 'sentinel',
      options: {
        ...base,
        name: decodeURIComponent(name),
        sentinels: hosts.split(',').map((host) => parseHost(host, 26379)),
        db: parseDatabase(db),
        ...(username === undefined ? {} : { sentinelUsername: username }),
        ...(password === undefined ? {} : { sentinelPassword: password }),
        ...(tls === undefined ? {} : { sentinelTLS: tls, enableTLSForSentinelMode: true }),
      },
    };
  }
  if (parts.length > 1) throw invalid('The path must be the number of a database');
  return { kind: 'single', options: { ...base, ...parseHost(hosts, 6379), db: parseDatabase(parts[0]) } };
}

function parseUserInfo(text: string | undefined): Pick<RedisAccess, 'username' | 'password'> {
  if (text === undefined || text === '') return {};
  const at = text.indexOf(':');
  try {
    const username = decodeURIComponent(at < 0 ? text : text.slice(0, at));
    const password = at < 0 ? '' : decodeURIComponent(text.slice(at + 1));
    return { ...(username === '' ? {} : { username }), ...(password === '' ? {} : { password }) };
  } catch {
    throw invalid('User and password must be percent-encoded');
  }
}

function parseHost(text: string, fallbackPort: number): RedisAddress {
  const match = /^(?:\[([\da-f:.]+)\]|([^\s,:[\]]+))(?::(\d{1,5}))?$/i.exec(text);
  const host = match?.[1] ?? match?.[2];
  const port = Number(match?.[3] ?? fallbackPort);
  if (host === undefined || port < 1 || port > 65_535) throw invalid('A host or port is not usable');
  return { host, port };
}

function parseDatabase(text = '0'): number {
  if (!/^\d{1,4}$/.test(text)) throw invalid('The database must be a number');
  return Number(text);
}

function invalid(detail: string): VitrineError {
  return new VitrineError('invalid_configuration', `${detail}.`, {
    suggestion: `Write REDIS_URL as ${FORMS}.`,
  });
}
