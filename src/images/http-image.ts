import { isIP } from 'node:net';
import type { Readable } from 'node:stream';
import { type Agent, type Dispatcher, request } from 'undici';
import packageJson from '../../package.json' with { type: 'json' };
import { toRetryAfterMs } from '../errors/retry-after.ts';
import { VitrineError } from '../errors/vitrine-error.ts';
import {
  type AddressGuard,
  createAddressGuard,
  isPublicAddress,
  PUBLIC_ONLY,
  type ResolveHost,
  toHostName,
  toHostNames,
} from './address-guard.ts';
import { createByteBudget } from './byte-budget.ts';
import { createGuardedAgent } from './guarded-agent.ts';
import { readLimited, tooLarge } from './read-limited.ts';

const MAX_REDIRECTS = 3;
const REDIRECTS = new Set([301, 302, 303, 307, 308]);
/** From a request to the first byte of the image. */
const FIRST_BYTE_MS = 10_000;
const CONNECT_MARGIN_MS = 1_000;
/** Longer waits that a server asks for are cut to this. */
const MAX_RETRY_AFTER_MS = 3_600_000;
/** A host that asks to slow down without saying for how long, or for no time at all, is left alone for this. */
const MIN_BUSY_MS = 1_000;

export interface HttpImages extends AsyncDisposable {
  /** @throws VitrineError with an `image_*` code */
  fetch(url: string, signal: AbortSignal): Promise<Uint8Array>;
}

/** Header fields by the name of the host that they are sent to. */
export type SourceHeaders = Readonly<Record<string, Readonly<Record<string, string>>>>;

export interface HttpSettings {
  /** `host` or `host:port`: may be fetched from although its addresses are private. */
  readonly allowedHosts: readonly string[];
  /** Networks such as `10.0.0.0/8` that may be fetched from. */
  readonly allowedNetworks: readonly string[];
  /** By `host` or `host:port`; secrets. */
  readonly sourceHeaders: SourceHeaders;
  /** A URL or an email address, for the people who run image hosts. */
  readonly contact: string | undefined;
  /** For one image, redirects and body included. */
  readonly timeoutMs: number;
  /** Default: 10 s. */
  readonly firstByteMs?: number;
  readonly maxBytes: number;
  /** Connections to one host at once: as many as images are fetched from it at once, so that no fetch waits here. */
  readonly connectionsPerHost: number;
  /** What all running fetches may hold together. */
  readonly maxBytesInFlight: number;
  readonly resolveHost?: ResolveHost;
}

/** Images by GET: redirects are followed here, so that the guard sees every hop. */
export function createHttpImages(settings: HttpSettings): HttpImages {
  const { timeoutMs, firstByteMs = FIRST_BYTE_MS, maxBytes, resolveHost } = settings;
  const allowed = { hosts: settings.allowedHosts, networks: settings.allowedNetworks };
  // Not before a request's own deadline.
  const agentSettings = { ...settings, timeoutMs: timeoutMs + CONNECT_MARGIN_MS };
  const guard = createAddressGuard(allowed, resolveHost);
  const allowing = createGuardedAgent(guard, agentSettings);
  /** For redirects to another host: what is allowed is allowed to those who name it, not to those who are named. */
  const publicOnly = createGuardedAgent(createAddressGuard(PUBLIC_ONLY, resolveHost), agentSettings);
  const budget = createByteBudget(settings.maxBytesInFlight);
  const toHeaders = createToHeaders(settings, guard);

  /** The image, or the address that the server redirects to. */
  async function fetchHop(url: URL, agent: Agent, signal: AbortSignal): Promise<Uint8Array | URL> {
    const ending = new AbortController();
    const onSilent = () => ending.abort(toTimeout(url, 'sent no byte of the image', firstByteMs));
    const firstByteTimer = setTimeout(onSilent, firstByteMs);
    using account = budget.open(() => ending.abort(toSlow(url)));
    try {
      const response = await request(url, {
        dispatcher: agent,
        signal: AbortSignal.any([signal, ending.signal]),
        headers: toHeaders(url),
      });
      const location = response.headers['location'];
      if (REDIRECTS.has(response.statusCode) && typeof location === 'string') {
        finish(response.body, signal);
        return parseUrl(location, url);
      }
      const failure = toStatusError(response, url);
      if (failure !== null) {
        finish(response.body, signal);
        throw failure;
      }
      const refusal = toHeaderError(response, url, maxBytes);
      if (refusal !== null) {
        discard(response.body);
        throw refusal;
      }
      return await readLimited(response.body, maxBytes, (bytes) => {
        clearTimeout(firstByteTimer);
        account.add(bytes);
      });
    } catch (error) {
      throw ending.signal.aborted ? ending.signal.reason : error;
    } finally {
      clearTimeout(firstByteTimer);
    }
  }

  return {
    async fetch(address, signal) {
      // One deadline for the whole walk: an idle timeout never fires on a server that sends a byte at a time.
      const deadline = AbortSignal.timeout(timeoutMs);
      let url = parseUrl(address);
      let agent = allowing;
      try {
        for (let redirects = 0; redirects <= MAX_REDIRECTS; redirects++) {
          const answer = await fetchHop(url, agent, AbortSignal.any([signal, deadline]));
          if (!(answer instanceof URL)) return answer;
          if (url.protocol === 'https:' && answer.protocol === 'http:') {
            throw refuseUrl(`${url.host} redirects from https to http.`);
          }
          if (answer.host !== url.host) agent = publicOnly;
          url = answer;
        }
        throw refuseUrl(`The image URL redirects more than ${MAX_REDIRECTS} times.`);
      } catch (error) {
        signal.throwIfAborted();
        if (deadline.aborted) throw toTimeout(url, 'did not send the image', timeoutMs);
        const failure = toFetchError(error, url);
        throw agent === publicOnly && failure.code === 'image_address_blocked'
          ? toBlockedRedirect()
          : failure;
      }
    },
    async [Symbol.asyncDispose]() {
      await Promise.all([allowing.destroy(), publicOnly.destroy()]);
    },
  };
}

/**
 * The header fields for a host: our own, and those that the settings have for it and no other. Secrets are sent over
 * https; over plain http, where anyone on the way could read them, only within the owner's own network.
 */
function createToHeaders(
  { contact, sourceHeaders }: HttpSettings,
  guard: AddressGuard,
): (url: URL) => Record<string, string> {
  const userAgent = `Vitrine/${packageJson.version}${contact === undefined ? '' : ` (+${contact})`}`;
  const byHost = new Map(Object.entries(sourceHeaders).map(([host, headers]) => [toHostName(host), headers]));
  return ({ hostname, port: givenPort, protocol }) => {
    const isSecure = protocol === 'https:';
    const port = Number(givenPort) || (isSecure ? 443 : 80);
    const isOwnNetwork = guard.isNamed(hostname, port) || isPrivateLiteral(hostname);
    const name = toHostNames(hostname, port).find((candidate) => byHost.has(candidate));
    const secrets = name !== undefined && (isSecure || isOwnNetwork) ? byHost.get(name) : {};
    return {
      accept: 'image/*, */*;q=0.1',
      'user-agent': userAgent,
      ...secrets,
      'accept-encoding': 'identity',
    };
  };
}

function isPrivateLiteral(hostname: string): boolean {
  const name = toHostName(hostname);
  return isIP(name) !== 0 && !isPublicAddress(name);
}

function parseUrl(text: string, base?: URL): URL {
  const url = URL.parse(text, base?.href);
  if (url === null || (url.protocol !== 'http:' && url.protocol !== 'https:')) {
    throw new VitrineError(
      'image_url_invalid',
      base === undefined
        ? 'The image URL is not an absolute http or https URL.'
        : `${base.host} redirects to something that is not an http or https URL.`,
    );
  }
  if (url.username !== '' || url.password !== '') {
    throw new VitrineError('image_url_invalid', 'The image URL contains a user name or password.');
  }
  return url;
}

const GIVE_THE_REAL_ADDRESS = { suggestion: 'Give the address at which the image really is.' };

function refuseUrl(detail: string): VitrineError {
  return new VitrineError('image_url_invalid', detail, GIVE_THE_REAL_ADDRESS);
}

function toBlockedRedirect(): VitrineError {
  const detail = 'The image URL redirects to another host, at a private or reserved address.';
  return new VitrineError('image_address_blocked', detail, GIVE_THE_REAL_ADDRESS);
}

function toTimeout(url: URL, what: string, timeoutMs: number): VitrineError {
  return new VitrineError('image_fetch_timeout', `${url.host} ${what} within ${timeoutMs} ms.`);
}

function toSlow(url: URL): VitrineError {
  return new VitrineError('image_host_slow', `${url.host} is slow, and others needed the memory.`);
}

/** Reads the rest of a short answer in the background, so that its connection can be used again. */
function finish(body: Dispatcher.ResponseData['body'], signal: AbortSignal): void {
  body.dump({ limit: 16_384, signal }).catch(() => undefined);
}

/** Closes the connection; the error that the stream then emits is of no interest. */
function discard(body: Readable): void {
  body.on('error', () => undefined).destroy();
}

/** What the header fields of a good answer say against its body. */
function toHeaderError(
  { headers }: Dispatcher.ResponseData,
  url: URL,
  maxBytes: number,
): VitrineError | null {
  // Never decompressed: a small answer could become any number of bytes.
  const encodings = [headers['content-encoding'] ?? [], headers['transfer-encoding'] ?? []].flat().join(',');
  if (!/^(?:[\s,]|\bidentity\b|\bchunked\b)*$/i.test(encodings)) {
    return new VitrineError(
      'image_encoded',
      `${url.host} sent the image compressed, although it was asked not to.`,
    );
  }
  return Number(headers['content-length']) > maxBytes ? tooLarge(maxBytes) : null;
}

function toStatusError({ statusCode, headers }: Dispatcher.ResponseData, url: URL): VitrineError | null {
  if (statusCode >= 200 && statusCode < 300) return null;
  const detail = `${url.host} answered ${statusCode}.`;
  if (statusCode === 401 || statusCode === 403 || statusCode === 407 || statusCode === 451) {
    return new VitrineError('image_access_denied', detail);
  }
  const askedMs = toRetryAfterMs(headers['retry-after'], Date.now());
  const retryAfterMs = askedMs === undefined ? undefined : Math.min(askedMs, MAX_RETRY_AFTER_MS);
  if (statusCode === 429 || (statusCode === 503 && retryAfterMs !== undefined)) {
    return new VitrineError('image_host_busy', detail, {
      retryAfterMs: Math.max(MIN_BUSY_MS, retryAfterMs ?? 0),
    });
  }
  if (statusCode === 408 || statusCode === 425 || statusCode >= 500) {
    return new VitrineError('image_server_error', detail, retryAfterMs === undefined ? {} : { retryAfterMs });
  }
  if (statusCode >= 400) return new VitrineError('image_not_found', detail);
  return new VitrineError('image_server_error', `${detail} It sent neither an image nor an address.`);
}

function toFetchError(error: unknown, url: URL): VitrineError {
  if (error instanceof VitrineError) return error;
  const code = (error as NodeJS.ErrnoException | null)?.code ?? '';
  if (code === 'ENOTFOUND') {
    return new VitrineError('image_host_unknown', `There is no host ${url.hostname}.`, { cause: error });
  }
  const reason = code === 'ECONNREFUSED' ? 'refused the connection' : 'broke off or could not be reached';
  return new VitrineError('image_fetch_failed', `${url.host} ${reason}.`, { cause: error });
}
