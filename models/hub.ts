import type { Readable } from 'node:stream';
import { type Agent, request } from 'undici';
import { VitrineError } from '../src/errors/vitrine-error.ts';

const MAX_REDIRECTS = 5;

/** What is to be read again from where a download broke off. */
export interface Resume {
  readonly offset: number;
  /** Strong ETag of what is there already. */
  readonly etag: string;
}

/** A file that the hub has begun to send. */
export interface HubAnswer {
  /** Where in the file the body begins. */
  readonly offset: number;
  readonly body: Readable;
  /** Length of the whole file, where the server says it. */
  readonly bytes: number | undefined;
  /** Hex SHA-256 of the whole file, which the hub announces for large ones. */
  readonly sha256: string | undefined;
  /** Strong ETag, needed to go on later. */
  readonly etag: string | undefined;
  /** The commit that the revision stands for. */
  readonly commit: string | undefined;
}

/** An attempt that failed in a way that another may not. */
export class PassingFailure extends Error {}

/** Address of a file by the hub's own rule, which its mirrors share. */
export function toFileUrl(hubUrl: string, hubId: string, revision: string, path: string): string {
  const encode = (text: string) => text.split('/').map(encodeURIComponent).join('/');
  return `${hubUrl.replace(/\/+$/, '')}/${encode(hubId)}/resolve/${encodeURIComponent(revision)}/${encode(path)}`;
}

/**
 * Asks for a file, or for the rest of it. Large files are redirected to a store; the hub's own answer before that
 * tells their length and hash (`x-linked-size`, `x-linked-etag`, as huggingface_hub reads them).
 * @throws PassingFailure, VitrineError `model_unavailable` when asking again can't help
 */
export async function openHubFile(
  url: string,
  resume: Resume | null,
  agent: Agent,
  signal: AbortSignal,
): Promise<HubAnswer> {
  const range = resume === null ? {} : { range: `bytes=${resume.offset}-`, 'if-range': resume.etag };
  let linked: Readonly<Record<string, string | string[] | undefined>> = {};
  let address = url;
  for (let hop = 0; hop <= MAX_REDIRECTS; hop++) {
    const { statusCode, headers, body } = await request(address, {
      dispatcher: agent,
      signal,
      headers: { 'accept-encoding': 'identity', 'user-agent': 'Vitrine', ...range },
    }).catch((cause: unknown) => {
      throw new PassingFailure(`${new URL(address).host} could not be reached`, { cause });
    });
    linked = { ...headers, ...linked };
    const location = headers['location'];
    if (statusCode >= 300 && statusCode < 400 && typeof location === 'string') {
      await body.dump();
      address = new URL(location, address).href;
      continue;
    }
    if (statusCode !== 200 && statusCode !== 206) {
      await body.dump();
      throw toFailure(statusCode, new URL(url));
    }
    if (String(headers['content-type']).startsWith('text/html')) {
      body.on('error', () => undefined).destroy();
      throw toFailure(statusCode, new URL(url), 'with a web page');
    }
    const contentRange = /^bytes (\d+)-\d+\/(\d+)$/.exec(String(headers['content-range']));
    const offset = statusCode === 206 ? Number(contentRange?.[1]) : 0;
    const length = statusCode === 206 ? contentRange?.[2] : headers['content-length'];
    const etag = String(headers['etag'] ?? '');
    return {
      offset,
      body,
      bytes: toNumber(linked['x-linked-size']) ?? toNumber(length),
      sha256: /^"?([\da-f]{64})"?$/.exec(String(linked['x-linked-etag']))?.[1],
      etag: etag.startsWith('"') ? etag : undefined,
      commit: typeof linked['x-repo-commit'] === 'string' ? linked['x-repo-commit'] : undefined,
    };
  }
  throw new PassingFailure(`${new URL(url).host} redirects in circles`);
}

function toFailure(status: number, { host, pathname }: URL, how = `${status}`): Error {
  if (status === 416 || status === 408 || status === 429 || status >= 500) {
    return new PassingFailure(`${host} answered ${status}`);
  }
  return new VitrineError('model_unavailable', `${host} answered ${how} for ${pathname}.`, {
    suggestion: 'Check MODEL_HUB_URL, or copy the files into MODELS_DIR by hand.',
  });
}

function toNumber(text: string | string[] | undefined): number | undefined {
  return typeof text === 'string' && /^\d+$/.test(text) ? Number(text) : undefined;
}
