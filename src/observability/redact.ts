// Each expression reads a text once, whatever it holds: none goes back.
const ADDRESS = /[a-z][a-z\d+.-]{0,30}:\/\/[^\s"\\]*/gi;
const SECRETS: readonly (readonly [RegExp, string])[] = [
  [/\bvitrine_[\w-]{8,}/g, 'vitrine_***'],
  [/\b(Bearer|Basic) [\w.~+/=-]+/gi, '$1 ***'],
  [/data:[^,\s"\\]{0,200},[^\s"\\]*/gi, 'data:***'],
  // Long base64 is the bytes of an image, as far as anyone knows.
  [/[A-Za-z\d+/_-]{200,}={0,2}/g, '***'],
];

/** The text without passwords, keys, queries of addresses and bytes of images. */
export function redact(text: string): string {
  const withoutQueries = text.includes('://') ? text.replace(ADDRESS, toPublicAddress) : text;
  return SECRETS.reduce((kept, [secret, mark]) => kept.replace(secret, mark), withoutQueries);
}

/** Without user, password and query: that is where tokens and signatures are. */
function toPublicAddress(address: string): string {
  const [place = '', ...query] = address.split('?');
  const withoutUser = place.replace(/^([^/]*\/\/)[^/]*@/, '$1***@');
  return query.length > 0 ? `${withoutUser}?***` : withoutUser;
}

const MAX_LINE_BYTES = 8_192;
/** Of each text of a line that is too long, so that many of them fit. */
const MAX_TEXT = 500;

/** A line of the log as it may be written: without secrets, and of at most 8 KB. It stays JSON. */
export function toSafeLine(line: string): string {
  const safe = redact(line);
  if (Buffer.byteLength(safe) <= MAX_LINE_BYTES) return safe;
  const entry = JSON.parse(line, (_name, value: unknown) =>
    typeof value === 'string' ? cut(redact(value)) : value,
  ) as Readonly<Record<string, unknown>>;
  const shorter = `${JSON.stringify({ ...entry, is_cut: true })}\n`;
  if (Buffer.byteLength(shorter) <= MAX_LINE_BYTES) return shorter;
  const { level, time, pid, request_id, msg } = entry;
  return `${JSON.stringify({ level, time, pid, request_id, msg, is_cut: true })}\n`;
}

const cut = (text: string): string => (text.length > MAX_TEXT ? `${text.slice(0, MAX_TEXT)}…` : text);
