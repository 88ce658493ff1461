import { isIP } from 'node:net';
import { Agent, buildConnector } from 'undici';
import type { AddressGuard } from './address-guard.ts';

export interface AgentSettings {
  /** When an attempt to connect is given up. Each request needs a deadline of its own: there is no other limit. */
  readonly timeoutMs: number;
  /** Connections to one host at once. */
  readonly connectionsPerHost: number;
}

/**
 * Connections to the hosts that the guard lets through; proxy settings of the environment are ignored. An agent keeps
 * its connections: one of another guard must not be used in its place.
 */
export function createGuardedAgent(guard: AddressGuard, settings: AgentSettings): Agent {
  const { timeoutMs, connectionsPerHost } = settings;
  return new Agent({
    connect: createGuardedConnector(guard, timeoutMs),
    connections: connectionsPerHost,
    pipelining: 1,
    keepAliveTimeout: 10_000,
    // They would only compete with the deadlines of the requests.
    headersTimeout: 0,
    bodyTimeout: 0,
  });
}

/** Literal addresses are checked before the socket is made, names when they are resolved by the socket itself. */
function createGuardedConnector(guard: AddressGuard, timeoutMs: number): buildConnector.connector {
  const connectNamed = buildConnector({ timeout: timeoutMs });
  // The types of `lookup` and of the options are joined by undici at run time: it hands all of them to net.connect.
  const connectChecked = buildConnector({
    timeout: timeoutMs,
    lookup: guard.lookup,
  } as buildConnector.BuildOptions);
  return (options, callback) => {
    const port = Number(options.port || (options.protocol === 'https:' ? 443 : 80));
    if (guard.isNamed(options.hostname, port)) return connectNamed(options, callback);
    const literal = options.hostname.replace(/^\[(.*)\]$/, '$1');
    try {
      if (isIP(literal) !== 0) guard.check(literal);
    } catch (error) {
      return callback(error as Error, null);
    }
    return connectChecked(options, callback);
  };
}
