import { html } from 'hono/html';
import { type ApiRouter, createRouter } from '../routing/router.ts';
import { type Asset, readDashboardAssets } from './dashboard-assets.ts';

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

/** The web page, and the files that it loads. */
export function createDashboardRoutes(): ApiRouter {
  const routes = createRouter();
  let assets: ReadonlyMap<string, Asset> | undefined;
  const readAssets = () => {
    assets ??= readDashboardAssets();
    return assets;
  };

  routes.get('/', (c) => {
    c.header('Content-Security-Policy', POLICY);
    // Told at once, so that the browser does not find one import behind the other.
    const pathsOf = (type: string) =>
      [...readAssets()].filter(([, each]) => each.type === type).map(([path]) => path);
    return c.html(html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Vitrine</title>
<link rel="icon" href="/dashboard/icon.svg" type="image/svg+xml">
${pathsOf('text/css').map((path) => html`<link rel="stylesheet" href="${path}">\n`)}
${pathsOf('text/javascript').map((path) => html`<link rel="modulepreload" href="${path}">\n`)}
<script type="module" src="/dashboard/main.ts"></script>
</head>
<body>
<noscript>This page needs JavaScript. The API does not: see <a href="/docs">its documentation</a>.</noscript>
<div id="app"></div>
</body>
</html>`);
  });

  routes.get('/dashboard/*', (c, next) => {
    const asset = readAssets().get(c.req.path);
    if (asset === undefined) return next();
    c.header('ETag', asset.etag);
    // It may change with the next version: the browser asks each time, and mostly hears that nothing has.
    c.header('Cache-Control', 'no-cache');
    if (c.req.header('if-none-match') === asset.etag) return c.body(null, 304);
    c.header('Content-Type', `${asset.type}; charset=utf-8`);
    c.header('Vary', 'Accept-Encoding');
    if (!/\bgzip\b/.test(c.req.header('accept-encoding') ?? '')) return c.body(asset.body);
    c.header('Content-Encoding', 'gzip');
    return c.body(asset.gzipped);
  });

  return routes;
}
