import { isIP } from 'node:net';
import type { Readable } from 'node:stream';
import { createBrotliDecompress, createGunzip, createInflate } from 'node:zlib';
import { Agent, buildConnector, type Dispatcher, request } from 'undici';
import { toRetryAfterMs } from '../errors/retry-after.ts';
import { VitrineError } from '../errors/vitrine-error.ts';
import type { AddressGuard } from './address-guard.ts';
import { readLimited, tooLarge } from './read-limited.ts';

const MAX_REDIRECTS = 5;
const REDIRECTS = new Set([301, 302, 303, 307, 308]);
/** Longer waits that a server asks for are cut to this. */
const MAX_RETRY_AFTER_MS = 3_600_000;
/** A host that asks to slow down without saying for how long, or for no time at all, is left alone for this. */
const MIN_BUSY_MS = 1_000;

export interface HttpImages extends AsyncDisposable {
  /** @throws VitrineError with an `image_*` code */
  fetch(url: string, signal: AbortSignal): Promise<Uint8Array>;
}

export interface HttpSettings {
  readonly guard: AddressGuard;
  readonly timeoutMs: number;
  readonly maxBytes: number;
  /** Connections to one host at once: as many as images are fetched at once, so that no fetch waits here. */
  readonly connectionsPerHost: number;
}

/** Images by GET: redirects are followed here, so that the guard sees every hop. */
export function createHttpImages(settings: HttpSettings): HttpImages {
  const { guard, timeoutMs, maxBytes, connectionsPerHost } = settings;
  const agent = new Agent({
    connect: createGuardedConnector(guard, timeoutMs),
    connections: connectionsPerHost,
    pipelining: 1,
    keepAliveTimeout: 10_000,
    headersTimeout: timeoutMs,
    bodyTimeout: timeoutMs,
  });

  const fetchHop = async (url: URL, signal: AbortSignal): Promise<Uint8Array | URL> => {
    const response = await request(url, {
      dispatcher: agent,
      signal,
      headers: {
        accept: 'image/*, */*;q=0.1',
        'accept-encoding': 'identity',
        'user-agent': 'Vitrine (image indexer)',
      },
    });
    const location = response.headers['location'];
    if (REDIRECTS.has(response.statusCode) && typeof location === 'string') {
      await response.body.dump({ limit: 16_384, signal });
      return parseUrl(location, url);
    }
    const failure = toStatusError(response, url);
    if (failure !== null) {
      await response.body.dump({ limit: 16_384, signal });
      throw failure;
    }
    if (Number(response.headers['content-length']) > maxBytes) {
      discard(response.body);
      throw tooLarge(maxBytes);
    }
    return readLimited(decoded(response), maxBytes);
  };

  return {
    async fetch(address, signal) {
      // One deadline for the whole walk: an idle timeout never fires on a server that sends a byte at a time.
      const deadline = AbortSignal.timeout(timeoutMs);
      let url = parseUrl(address);
      try {
        for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
          const answer = await fetchHop(url, AbortSignal.any([signal, deadline]));
          if (!(answer instanceof URL)) return answer;
          url = answer;
        }
      } catch (error) {
        signal.throwIfAborted();
        if (deadline.aborted) {
          throw new VitrineError('image_fetch_timeout', `${url.host} took longer than ${timeoutMs} ms.`);
        }
        throw toFetchError(error, url);
      }
      throw new VitrineError(
        'image_url_invalid',
        `The image URL redirects more than ${MAX_REDIRECTS} times.`,
        {
          suggestion: 'Give the address at which the image really is.',
        },
      );
    },
    async [Symbol.asyncDispose]() {
      await agent.destroy();
    },
  };
}

/** Literal addresses are checked before the socket is made, names when they are resolved by the socket itself. */
export function createGuardedConnector(guard: AddressGuard, timeoutMs: number): buildConnector.connector {
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

/** The body as the image's own bytes, where a server compresses although it was asked not to. */
function decoded({ headers, body }: Dispatcher.ResponseData): Readable {
  const encoding = String(headers['content-encoding'] ?? 'identity').toLowerCase();
  if (encoding === 'identity') return body;
  const decoder = DECODERS[encoding];
  if (decoder === undefined) {
    discard(body);
    throw new VitrineError('image_unsupported', 'The server sent the image in an unknown content encoding.');
  }
  const stream = decoder();
  body.on('error', (error) => stream.destroy(error));
  stream.on('close', () => body.destroy());
  return body.pipe(stream);
}

/** Closes the connection; the error that the stream then emits is of no interest. */
function discard(body: Readable): void {
  body.on('error', () => undefined).destroy();
}

const DECODERS: Readonly<Record<string, () => ReturnType<typeof createGunzip>>> = {
  gzip: createGunzip,
  'x-gzip': createGunzip,
  deflate: createInflate,
  br: createBrotliDecompress,
};

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
  if (
    code.startsWith('Z_') ||
    code.startsWith('ERR__ERROR_FORMAT') ||
    code === 'ERR_BROTLI_COMPRESSION_FAILED'
  ) {
    return new VitrineError('image_corrupt', `The answer of ${url.host} could not be decompressed.`, {
      cause: error,
    });
  }
  if (code === 'ENOTFOUND') {
    return new VitrineError('image_host_unknown', `There is no host ${url.hostname}.`, { cause: error });
  }
  const reason = code === 'ECONNREFUSED' ? 'refused the connection' : 'broke off or could not be reached';
  return new VitrineError('image_fetch_failed', `${url.host} ${reason}.`, { cause: error });
}
