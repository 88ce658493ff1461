import { isIPv4 } from 'node:net';
import type { HttpBindings } from '@hono/node-server';
import type { Context } from 'hono';
import ipaddr from 'ipaddr.js';
import type { AccessConfig } from '../../config/config.ts';

type Address = ipaddr.IPv4 | ipaddr.IPv6;

/** Where a request comes from, as far as it can be believed. */
export interface ClientAddresses {
  /** Undefined for a request that came over no socket. */
  of(c: Context): string | undefined;
  isHttps(c: Context): boolean;
  isTrustedProxy(address: string | undefined): boolean;
}

/** Only what a trusted proxy says about a request is believed, and of a chain of them only what the last ones say. */
export function createClientAddresses({
  proxies,
}: {
  readonly proxies: AccessConfig['proxies'];
}): ClientAddresses {
  const networks = proxies.networks.map((network) => ipaddr.parseCIDR(network));
  const isTrusted = (address: Address): boolean =>
    networks.some(([base, bits]) => address.kind() === base.kind() && address.match(base, bits));
  const isTrustedProxy = (text: string | undefined): boolean => {
    const address = networks.length === 0 ? null : toAddress(text);
    return address !== null && isTrusted(address);
  };

  function toHops(c: Context): readonly string[] {
    const header = c.req.header(proxies.header) ?? '';
    if (proxies.header === 'x-forwarded-for') return header.split(',');
    return header.split(',').map((element) => /(?:^|;)\s*for="?([^";]+)/i.exec(element)?.[1] ?? '');
  }

  return {
    isTrustedProxy,
    of(c) {
      const peer = toPeer(c);
      if (!isTrustedProxy(peer)) return peer;
      let client = toAddress(peer);
      for (const hop of toHops(c).toReversed()) {
        const address = toAddress(hop);
        if (address === null) break;
        client = address;
        if (!isTrusted(address)) break;
      }
      return client?.toString();
    },
    isHttps(c) {
      if (!isTrustedProxy(toPeer(c))) return false;
      if (proxies.header === 'x-forwarded-for') {
        return /^\s*https\s*$/i.test((c.req.header('x-forwarded-proto') ?? '').split(',').at(-1) ?? '');
      }
      return /(?:^|;)\s*proto="?https\b/i.test((c.req.header('forwarded') ?? '').split(',').at(-1) ?? '');
    },
  };
}

/** Requests are counted by it: one host, of which a network of IPv6 addresses is typically given to one. */
export function toAddressGroup(text: string): string {
  if (isIPv4(text)) return text;
  const address = toAddress(text);
  if (address === null || address.kind() === 'ipv4') return address?.toString() ?? text;
  return ipaddr.IPv6.networkAddressFromCIDR(`${address.toString()}/64`).toString();
}

const toPeer = (c: Context): string | undefined =>
  (c.env as Partial<HttpBindings> | undefined)?.incoming?.socket.remoteAddress;

/** IPv4 inside IPv6 as IPv4. The port that a proxy may have appended is left out. */
function toAddress(text: string | undefined): Address | null {
  const bare = (text ?? '')
    .trim()
    .replace(/^\[(.*)\](?::\d+)?$/, '$1')
    .replace(/^([\d.]+):\d+$/, '$1');
  return ipaddr.isValid(bare) ? ipaddr.process(bare) : null;
}
