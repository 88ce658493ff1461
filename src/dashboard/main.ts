import { type FunctionComponent, render } from 'preact';
import { useEffect, useRef, useState } from 'preact/hooks';
import { begun, begunSession } from './begin.ts';
import { type ApiError, needsKey } from './lib/api.ts';
import { ConfirmDialog } from './lib/confirm.ts';
import { isLive, listen, stats } from './lib/events.ts';
import { toCompact } from './lib/format.ts';
import { html } from './lib/html.ts';
import { lazy } from './lib/lazy.ts';
import { toApiError } from './lib/load.ts';
import { Notices } from './lib/notices.ts';
import { Failure, Loading } from './lib/parts.ts';
import { findPicture } from './lib/pictures.ts';
import { route, toHref } from './lib/router.ts';
import { can, loadSession, type Scope, session, signOut } from './lib/session.ts';
import { SearchView, searchWith } from './search.ts';

interface View {
  readonly name: string;
  readonly title: string;
  readonly scope: Scope;
  readonly content: FunctionComponent;
  /** A number that wants attention. */
  readonly count?: () => number;
}

const VIEWS: readonly View[] = [
  { name: 'search', title: 'Search', scope: 'search', content: SearchView },
  {
    name: 'catalog',
    title: 'Catalog',
    scope: 'read',
    content: lazy('Catalog', async () => (await import('./catalog.ts')).CatalogView),
  },
  {
    name: 'queue',
    title: 'Queue',
    scope: 'read',
    content: lazy('Queue', async () => (await import('./queue.ts')).QueueView),
    count: () => stats.value?.alerts.length ?? 0,
  },
  {
    name: 'jobs',
    title: 'Jobs',
    scope: 'read',
    content: lazy('Jobs', async () => (await import('./jobs.ts')).JobsView),
  },
  {
    name: 'dead-letters',
    title: 'Dead letters',
    scope: 'read',
    content: lazy('Dead letters', async () => (await import('./dead-letters.ts')).DeadLettersView),
    count: () => stats.value?.dead ?? 0,
  },
  {
    name: 'system',
    title: 'System',
    scope: 'read',
    content: lazy('System', async () => (await import('./system.ts')).SystemView),
  },
];

const SignIn = lazy('Sign in', async () => (await import('./sign-in.ts')).SignIn);

function Page() {
  const [error, setError] = useState<ApiError | null>(null);
  const waitFor = (loaded: Promise<void>) => {
    setError(null);
    loaded.catch((reason: unknown) => setError(toApiError(reason)));
  };
  useEffect(() => waitFor(begunSession), []);
  const isKnown = session.value !== null;
  useEffect(() => {
    if (isKnown && can('read')) listen();
  }, [isKnown]);
  const view = VIEWS.find(({ name }) => name === (route.value.path[0] ?? 'search'));
  useEffect(takePictures, []);
  useEffect(() => {
    document.title = view === undefined ? 'Vitrine' : `${view.title} · Vitrine`;
  }, [view]);

  return html`
    <a class="skip" href="#content" onClick=${skipToContent}>Skip to content</a>
    <${Header} current=${view?.name} />
    <main id="content" tabindex="-1">${toContent(view, error, () => waitFor(loadSession()))}</main>
    <${ConfirmDialog} />
    <${Notices} />
  `;
}

function toContent(view: View | undefined, error: ApiError | null, retry: () => void) {
  if (needsKey.value) return html`<${SignIn} />`;
  if (session.value === null && error !== null) return html`<${Failure} error=${error} retry=${retry} />`;
  if (session.value === null) return html`<${Loading} what="the page" />`;
  if (view === undefined) {
    return html`<section class="empty"><h1>Nothing is at this address</h1>
      <p><a href=${toHref(['search'])}>Go to the search</a></p></section>`;
  }
  if (!can(view.scope)) {
    return html`<section class="empty"><h1>${view.title}</h1>
      <p>Your key does not have the scope <code>${view.scope}</code>. Sign out, and sign in with one that has.</p></section>`;
  }
  return html`<${view.content} />`;
}

const ICON = new URL('icon.svg', import.meta.url).pathname;

function Header({ current }: { current: string | undefined }) {
  const name = session.value?.name;
  // On a phone not all views have room side by side.
  const counts = VIEWS.map(({ count }) => count?.()).join();
  const nav = useRef<HTMLElement>(null);
  useEffect(() => {
    const shown = nav.current?.querySelector('[aria-current]');
    shown?.scrollIntoView({ inline: 'center', block: 'nearest' });
  }, [current, counts]);
  return html`<header class="top">
    <a class="brand" href=${toHref(['search'])}><img src=${ICON} alt="" width="28" height="28" />Vitrine</a>
    <nav aria-label="Views" ref=${nav}>
      ${VIEWS.map(({ name: view, title, count }) => {
        const alerts = count?.() ?? 0;
        return html`<a href=${toHref([view])} aria-current=${view === current ? 'page' : undefined}>
          ${title}${alerts > 0 && html`<span class="count">${toCompact(alerts)}</span>`}</a>`;
      })}
    </nav>
    <span class="session">
      ${session.value !== null && !isLive.value && can('read') && html`<span class="offline" role="status">Not live</span>`}
      ${name && html`<button class="quiet" onClick=${() => void signOut()} title=${`Signed in with the key ${name}`}>Sign out</button>`}
    </span>
  </header>`;
}

/** A picture that is dropped or pasted anywhere is searched with, but for the import of a catalog, which takes files. */
function takePictures(): () => void {
  const left = new AbortController();
  const take = (event: Event, data: DataTransfer | null) => {
    const picture = findPicture(data);
    const isImport = route.value.path[0] === 'catalog' && route.value.path[1] === 'import';
    if (picture === undefined || isImport || !can('search')) return;
    event.preventDefault();
    void searchWith(picture);
  };
  const mark = (isOver: boolean) => document.body.classList.toggle('dropping', isOver);
  const options = { signal: left.signal };
  addEventListener(
    'dragover',
    (event) => {
      event.preventDefault();
      mark(true);
    },
    options,
  );
  addEventListener('dragleave', (event) => mark(event.relatedTarget !== null), options);
  addEventListener(
    'drop',
    (event) => {
      mark(false);
      take(event, event.dataTransfer);
      event.preventDefault();
    },
    options,
  );
  addEventListener('paste', (event) => take(event, event.clipboardData), options);
  return () => left.abort();
}

/** The address holds the view, so the link must not replace it. */
function skipToContent(event: Event): void {
  event.preventDefault();
  document.getElementById('content')?.focus();
}

/** Most answers are here by then: the page is drawn once, with what it shows. A slower one is waited for in the page. */
const PATIENCE_MS = 100;

await Promise.race([begun, new Promise((resolve) => setTimeout(resolve, PATIENCE_MS))]);
const app = document.getElementById('app');
if (app !== null) render(html`<${Page} />`, app);
