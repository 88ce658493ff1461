import type { MiddlewareHandler } from 'hono';
import ipaddr from 'ipaddr.js';
import { VitrineError } from '../../errors/vitrine-error.ts';
import type { ApiEnv } from '../../routing/router.ts';

/** True for an address, or the name, that only this machine can reach. */
export function isLoopback(host: string): boolean {
  const bare = host.toLowerCase().replace(/^\[(.*)\]$/, '$1');
  if (bare === 'localhost') return true;
  return ipaddr.isValid(bare) && ipaddr.process(bare).range() === 'loopback';
}

/**
 * For a server without API keys: answers only to the names of the loopback and to `publicUrl`. A page of another site
 * whose name is made to point to this machine (DNS rebinding) comes with its own name.
 */
export function checkHost(
  publicUrl: string | undefined,
  isExempt: (path: string) => boolean,
): MiddlewareHandler<ApiEnv> {
  const publicHost = publicUrl === undefined ? undefined : new URL(publicUrl).hostname;
  return (c, next) => {
    const host = (c.req.header('host') ?? new URL(c.req.url).host).replace(/:\d+$/, '').toLowerCase();
    if (host === publicHost || isLoopback(host) || isExempt(c.req.path)) return next();
    throw new VitrineError('host_not_allowed', 'The Host header names neither the loopback nor PUBLIC_URL.');
  };
}
