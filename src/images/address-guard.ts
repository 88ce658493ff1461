import { type LookupAddress, type LookupAllOptions, lookup as lookupHost } from 'node:dns';
import { isIP, type LookupFunction } from 'node:net';
import ipaddr from 'ipaddr.js';
import { VitrineError } from '../errors/vitrine-error.ts';

/** What may be fetched from although its addresses are private. */
export interface AllowedAddresses {
  /** `host`, `host:port`, `[v6]:port` or an address: names whose addresses are not checked. */
  readonly hosts: readonly string[];
  /** Networks such as `10.0.0.0/8`. */
  readonly networks: readonly string[];
}

export const PUBLIC_ONLY: AllowedAddresses = { hosts: [], networks: [] };

/** Decides which hosts and addresses may be connected to. */
export interface AddressGuard {
  /** True when the settings name this host (or this host and port): its addresses are not checked. */
  isNamed(hostname: string, port: number): boolean;
  /** @throws VitrineError `image_address_blocked` when the address is neither public nor in an allowed network. */
  check(address: string): void;
  /** For sockets: resolves a host name and checks every address of the answer. Not called for literal IPs. */
  readonly lookup: LookupFunction;
}

/** Asks the DNS; another function in tests. */
export type ResolveHost = (
  hostname: string,
  options: LookupAllOptions,
  callback: (error: NodeJS.ErrnoException | null, addresses: LookupAddress[]) => void,
) => void;

export function createAddressGuard(
  allowed: AllowedAddresses,
  resolveHost: ResolveHost = lookupHost,
): AddressGuard {
  const networks = allowed.networks.map((network) => ipaddr.parseCIDR(network));
  const names = new Set(allowed.hosts.map(toHostName));

  const isInNetworks = (address: string): boolean => {
    // An IPv4 network also covers the same addresses written as mapped IPv6 ones.
    const parsed = ipaddr.process(address);
    return networks.some(([base, bits]) => base.kind() === parsed.kind() && parsed.match(base, bits));
  };

  const check = (address: string): void => {
    if (isPublicAddress(address) || isInNetworks(address)) return;
    throw new VitrineError('image_address_blocked', 'The image is at a private or reserved address.');
  };

  const lookup: LookupFunction = (hostname, options, callback) => {
    resolveHost(hostname, { ...options, all: true }, (error, addresses) => {
      if (error !== null) return callback(error, '');
      try {
        // One private address refuses the host: a mixed answer is a way around the check.
        for (const { address } of addresses) check(address);
      } catch (blocked) {
        return callback(blocked as Error, '');
      }
      const first = addresses[0];
      if (options.all === true || first === undefined) return callback(null, addresses);
      return callback(null, first.address, first.family);
    });
  };

  return {
    isNamed: (hostname, port) => toHostNames(hostname, port).some((name) => names.has(name)),
    check,
    lookup,
  };
}

/**
 * True for an address that the public Internet routes (IANA special-purpose address registries, RFC 6890). IPv4
 * inside IPv6 is judged as IPv4 where translators are in use (mapped, NAT64); tunnels of the past (6to4, Teredo,
 * ISATAP) are refused.
 */
export function isPublicAddress(address: string): boolean {
  if (isIP(address) === 0 || address.includes('%')) return false;
  const parsed = ipaddr.parse(address);
  if (parsed instanceof ipaddr.IPv4) return isPublicIpv4(parsed);
  const range = parsed.range();
  if (range === 'ipv4Mapped') return isPublicIpv4(parsed.toIPv4Address());
  // How an IPv6-only network reaches IPv4. ipaddr.js counts the prefix for local use (RFC 8215) to it.
  if (parsed.match(NAT64, 96)) return isPublicIpv4(new ipaddr.IPv4(parsed.toByteArray().slice(12)));
  // RFC 5214, section 6.1: ISATAP's interface id is 0000:5efe or 0200:5efe and an IPv4 address.
  const isIsatap = parsed.parts[5] === 0x5efe && ((parsed.parts[4] ?? 0) & 0xfdff) === 0;
  return range === 'unicast' && !isIsatap && parsed.match(GLOBAL_UNICAST, 3);
}

const NAT64 = ipaddr.IPv6.parse('64:ff9b::');
const GLOBAL_UNICAST = ipaddr.IPv6.parse('2000::');

/** Azure's metadata and DNS service: a public address that only ever answers from inside. */
const AZURE_WIRE_SERVER = '168.63.129.16';

function isPublicIpv4(address: ipaddr.IPv4): boolean {
  return address.range() === 'unicast' && address.toString() !== AZURE_WIRE_SERVER;
}

/** How settings may name a host that is asked on a port; the one with the port first. */
export function toHostNames(hostname: string, port: number): readonly string[] {
  const name = toHostName(hostname);
  return [`${name}:${port}`, name];
}

/** As URLs write it (lower case, in ASCII), without the brackets of an IPv6 address and the dot of a full name. */
export function toHostName(host: string): string {
  const [, name = host, port] = /^(\[[^\]]*\]|[^:]*):(\d+)$/.exec(host) ?? [];
  const url = URL.parse(`http://${isIP(name) === 6 ? `[${name}]` : name}`);
  const plain = (url?.hostname ?? name)
    .toLowerCase()
    .replace(/^\[(.*)\]$/, '$1')
    .replace(/\.$/, '');
  return port === undefined ? plain : `${plain}:${port}`;
}
