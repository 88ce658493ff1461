import dns from 'node:dns';
import { syncBuiltinESMExports } from 'node:module';
import { resolveHostile } from '../fixtures/hostile/servers.ts';

// Loaded into a process with `--import`: names under hostile.test then resolve as resolveHostile says, all others as ever.
const real = dns.lookup;
const lookup = (hostname: string, ...rest: unknown[]): void => {
  const [options, callback] = rest as Parameters<typeof resolveHostile> extends [string, ...infer R]
    ? R
    : never;
  if (hostname.endsWith('.hostile.test')) resolveHostile(hostname, options, callback);
  else (real as (hostname: string, ...rest: unknown[]) => void)(hostname, ...rest);
};
Object.assign(dns, { lookup });
syncBuiltinESMExports();
