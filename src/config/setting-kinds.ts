import { resolve } from 'node:path';
import ipaddr from 'ipaddr.js';
import { z } from 'zod';
import { type ApiKey, parseApiKeys } from './api-keys.ts';
import { isHostName, parseHeadersByHost } from './source-headers.ts';

/** What a setting's text may be: the check that also converts it, and the same for people. */
export interface Kind<T> {
  readonly check: z.ZodType<T, string>;
  readonly values: string;
}

export const text = (values = 'text'): Kind<string> => ({ check: z.string(), values });

export const pattern = (form: RegExp, values: string): Kind<string> => ({
  check: z.string().regex(form, { error: `must be ${values}` }),
  values,
});

export const number = (min: number, max: number): Kind<number> => ({
  check: z.coerce
    .number({ error: 'must be a number' })
    .min(min, { error: `must be at least ${min}` })
    .max(max, { error: `must be at most ${max}` }) as z.ZodType<number, string>,
  values: `${min} to ${max}`,
});

export const integer = (min: number, max: number): Kind<number> => ({
  check: z.coerce
    .number({ error: 'must be a whole number' })
    .int({ error: 'must be a whole number' })
    .min(min, { error: `must be at least ${min}` })
    .max(max, { error: `must be at most ${max}` }) as z.ZodType<number, string>,
  values: `${min} to ${max}`,
});

export const oneOf = <T extends string>(...values: readonly T[]): Kind<T> => ({
  check: z.enum(values, { error: `must be one of ${values.join(', ')}` }),
  values: values.join(', '),
});

const TRUE = ['true', '1', 'on'];
export const flag = (values: string): Kind<boolean> => ({
  check: z
    .enum([...TRUE, 'false', '0', 'off'], { error: `must be one of ${values}` })
    .transform((value) => TRUE.includes(value)),
  values,
});

export const list = (values: string): Kind<readonly string[]> => ({
  check: z.string().transform((value) =>
    value
      .split(',')
      .map((part) => part.trim())
      .filter((part) => part !== ''),
  ),
  values: `${values}, separated by commas`,
});

/** As Standard Webhooks has them: 24 to 64 bytes in base64. */
const isWebhookSecret = (text: string): boolean => {
  const bytes = /^whsec_([A-Za-z0-9+/]+={0,2})$/.exec(text)?.[1];
  const length = bytes === undefined ? 0 : Buffer.from(bytes, 'base64').length;
  return length >= 24 && length <= 64;
};

export const webhookSecrets: Kind<readonly string[]> = {
  check: z
    .string()
    .transform((value) => value.split(/[\s,]+/).filter((part) => part !== ''))
    .refine((secrets) => secrets.every(isWebhookSecret), {
      error: 'must be secrets of the form whsec_ and 24 to 64 bytes in base64, separated by commas',
    }),
  values: '`whsec_` and 24 to 64 bytes in base64, separated by commas',
};

export const hashes: Kind<readonly string[]> = {
  check: list('hashes').check.refine((hashes) => hashes.every((hash) => /^[0-9a-f]{64}$/i.test(hash)), {
    error: 'must be SHA-256 hashes in hexadecimal',
  }),
  values: 'SHA-256 hashes in hexadecimal, separated by commas',
};

export const folder: Kind<string> = {
  check: z.string().transform((value) => resolve(value)),
  values: 'a folder',
};

export const webAddress: Kind<string> = {
  check: z.string().refine((value) => URL.canParse(value) && /^https?:$/.test(new URL(value).protocol), {
    error: 'must be a URL that begins with http:// or https://',
  }),
  values: 'http:// or https://',
};

export const apiKeys: Kind<readonly ApiKey[]> = {
  check: z.string().transform((value, context) => {
    try {
      return parseApiKeys(value);
    } catch (error) {
      context.addIssue({ code: 'custom', message: error instanceof Error ? error.message : '' });
      return z.NEVER;
    }
  }),
  values: 'entries of `vitrine keys create`, separated by commas',
};

export const hosts = (settingOfNetworks: string): Kind<readonly string[]> => ({
  check: list('hosts').check.refine((names) => names.every(isHostName), {
    error: `must be host names, each with or without a port; networks belong in ${settingOfNetworks}`,
  }),
  values: 'hosts, separated by commas',
});

export const networks = (hint = ''): Kind<readonly string[]> => ({
  check: list('networks').check.refine((blocks) => blocks.every((block) => ipaddr.isValidCIDR(block)), {
    error: `must be networks such as 10.20.0.0/16${hint}`,
  }),
  values: 'networks, separated by commas',
});

export const contact = pattern(/^(?:https?:\/\/[^\s()]+|[^\s()@]+@[^\s()@]+)$/, 'a URL or an email address');

export const headersByHost: Kind<Readonly<Record<string, Readonly<Record<string, string>>>>> = {
  check: z.string().transform((value, { addIssue }) => {
    const headers = parseHeadersByHost(value);
    if (headers !== null) return headers;
    addIssue({ code: 'custom', message: 'must be a JSON object with the header fields of each host' });
    return z.NEVER;
  }),
  values: 'JSON',
};
