import { signal } from '@preact/signals';

/** Where the page is: `#/catalog/mug-1?q=red` has the path `catalog`, `mug-1`. */
export interface Route {
  readonly path: readonly string[];
  readonly query: URLSearchParams;
}

function parseRoute(hash: string): Route {
  const [path = '', query = ''] = hash.replace(/^#\/?/, '').split('?', 2);
  const parts = path.split('/').filter((part) => part !== '');
  return { path: parts.map(toText), query: new URLSearchParams(query) };
}

function toText(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}

export const route = signal(parseRoute(location.hash));

addEventListener('hashchange', () => {
  route.value = parseRoute(location.hash);
});

export type Query = Readonly<Record<string, string | readonly string[] | undefined>>;

/** The address of a view; what is undefined or empty is left out of the query. */
export function toHref(path: readonly string[], query: Query = {}): string {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const each of [value].flat()) if (each !== undefined && each !== '') parameters.append(name, each);
  }
  const text = parameters.toString();
  return `#/${path.map(encodeURIComponent).join('/')}${text === '' ? '' : `?${text}`}`;
}

/** Goes there. `replace`: Back does not return to where the page is now. */
export function navigate(href: string, { replace = false } = {}): void {
  if (!replace) {
    location.hash = href;
    return;
  }
  history.replaceState(null, '', href);
  route.value = parseRoute(location.hash);
}
