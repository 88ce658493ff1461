import { html } from 'hono/html';
import { type ApiRouter, createRouter } from '../routing/router.ts';
import { type DashboardAssets, readDashboardAssets, STYLESHEET } from './dashboard-assets.ts';
import { limitPage } from './security-headers.ts';

/** The page may load what its own server sends, and nothing inline. */
const POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  // Pictures that were dropped are shown from memory.
  "img-src 'self' blob: data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

/** What the page runs: the first asks for the data of the first view while the rest is still on its way. */
const ENTRIES = ['begin.ts', 'main.ts'] as const;

const YEAR_S = 365 * 24 * 60 * 60;

/** The web page, and the files that it loads. */
export function createDashboardRoutes(): ApiRouter {
  const routes = createRouter();
  let read: DashboardAssets | undefined;
  const readAssets = () => {
    read ??= readDashboardAssets(ENTRIES);
    return read;
  };

  routes.get('/', limitPage, (c) => {
    const { version, modules } = readAssets();
    const toPath = (file: string) => `/dashboard/${version}/${file}`;
    const [begin, main] = ENTRIES;
    c.header('Content-Security-Policy', POLICY);
    // It names the version of everything else.
    c.header('Cache-Control', 'no-cache');
    // All modules of the first view are named at once, so that the browser does not find one import behind the other.
    return c.html(html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Vitrine</title>
<link rel="stylesheet" href="${toPath(STYLESHEET)}">
<script type="module" async src="${toPath(begin)}"></script>
${modules.map((file) => html`<link rel="modulepreload" href="${toPath(file)}">\n`)}
<script type="module" src="${toPath(main)}"></script>
<link rel="icon" href="${toPath('icon.svg')}" type="image/svg+xml">
</head>
<body>
<noscript>This page needs JavaScript. The API does not: see <a href="/docs">its documentation</a>.</noscript>
<div id="app"></div>
</body>
</html>`);
  });

  routes.get('/dashboard/:version/:file{.+}', (c, next) => {
    const { version, files } = readAssets();
    const asset = files.get(c.req.param('file'));
    if (asset === undefined) return next();
    // A page that is open while the server is updated asks for files of the version before. It gets those of this one.
    const isCurrent = c.req.param('version') === version;
    c.header('Cache-Control', isCurrent ? `public, max-age=${YEAR_S}, immutable` : 'no-store');
    c.header('Content-Type', `${asset.type}; charset=utf-8`);
    c.header('Vary', 'Accept-Encoding');
    if (!/\bgzip\b/.test(c.req.header('accept-encoding') ?? '')) return c.body(asset.body);
    c.header('Content-Encoding', 'gzip');
    return c.body(asset.gzipped);
  });

  return routes;
}
