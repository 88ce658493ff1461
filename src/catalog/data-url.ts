const DATA_URL = /^data:[^,]{0,200};base64,/i;

export function isDataUrl(text: string): boolean {
  return /^data:/i.test(text);
}

/** What a `data:` URL (RFC 2397) holds, still in base64; null where it isn't in base64. */
export function toBase64OfDataUrl(url: string): string | null {
  const [prefix] = DATA_URL.exec(url) ?? [];
  return prefix === undefined ? null : url.slice(prefix.length);
}
