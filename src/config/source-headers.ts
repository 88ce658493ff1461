import { isIP } from 'node:net';

/** True for `host`, `host:port`, `[v6]`, `[v6]:port` and plain addresses. */
export function isHostName(text: string): boolean {
  if (isIP(text) !== 0) return true;
  const url = URL.parse(`http://${text}`);
  return url !== null && `${url.username}${url.password}` === '' && /^[^/?#\\\s]+$/.test(text);
}

/** What the HTTP client sets itself, or what would change how the answer is read. */
const OWN_FIELDS =
  /^(?:host|connection|keep-alive|proxy-.*|te|trailer|transfer-encoding|upgrade|expect|content-.*|accept-encoding|range|if-.*)$/;
const FIELD_NAME = /^[!#$%&'*+.^_`|~\da-z-]+$/;
const FIELD_VALUE = /^[\t\x20-\x7e\x80-\xff]*$/;

/** Header fields by host, their names in lower case; null for any other text. */
export function parseHeadersByHost(text: string): Record<string, Record<string, string>> | null {
  const byHost = parseObject(text);
  if (byHost === null) return null;
  const result: Record<string, Record<string, string>> = {};
  for (const [host, value] of Object.entries(byHost)) {
    const headers = parseHeaders(value);
    if (!isHostName(host) || headers === null) return null;
    result[host] = headers;
  }
  return result;
}

function parseHeaders(value: unknown): Record<string, string> | null {
  if (!isObject(value)) return null;
  const headers: Record<string, string> = {};
  for (const [field, content] of Object.entries(value)) {
    const name = field.toLowerCase();
    const isGood =
      typeof content === 'string' &&
      FIELD_NAME.test(name) &&
      !OWN_FIELDS.test(name) &&
      FIELD_VALUE.test(content);
    if (!isGood) return null;
    headers[name] = content;
  }
  return headers;
}

function parseObject(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : null;
  } catch {
    return null;
  }
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
