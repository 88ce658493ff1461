import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import type { Context as HonoContext } from 'hono';
import { html } from 'hono/html';
import packageJson from '../../package.json' with { type: 'json' };
import { ERRORS } from '../errors/error-table.ts';
import { type ApiRouter, createRouter } from '../routing/router.ts';
import { withSecurity } from './access/security-schemes.ts';
import { limitPage } from './security-headers.ts';

const DOCUMENT_INFO = {
  openapi: '3.1.0',
  info: {
    title: 'Vitrine',
    version: packageJson.version,
    description: 'Makes a product catalog searchable by its images.',
    license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
  },
};

// All that the page may load; the policy of other answers allows nothing.
const DOCS_POLICY = [
  "default-src 'none'",
  "script-src 'self'",
  // Swagger UI sets style attributes by markup.
  "style-src 'self' 'unsafe-inline'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

const PAGE_POLICY =
  "default-src 'none'; style-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const assetFolder = dirname(createRequire(import.meta.url).resolve('swagger-ui-dist/package.json'));

/** What the pages load, and from which file. */
const ASSETS: Readonly<Record<string, { readonly file: string; readonly type: string }>> = {
  '/docs/pages.css': { file: join(import.meta.dirname, 'pages.css'), type: 'text/css' },
  '/docs/swagger-ui.css': { file: join(assetFolder, 'swagger-ui.css'), type: 'text/css' },
  '/docs/swagger-ui-bundle.js': { file: join(assetFolder, 'swagger-ui-bundle.js'), type: 'text/javascript' },
};

const INIT_SCRIPT = `window.addEventListener('load', () => {
  SwaggerUIBundle({ url: '/openapi.json', dom_id: '#docs', deepLinking: true, validatorUrl: null });
});
`;

/** The pages for people, and the document; `app` is the router that holds all routes. */
export function createPageRoutes(app: () => ApiRouter, needsKey: boolean): ApiRouter {
  const routes = createRouter();
  let document: string | undefined;

  routes.get('/openapi.json', (c) => {
    document ??= JSON.stringify(withSecurity(app().getOpenAPI31Document(DOCUMENT_INFO), needsKey));
    return c.body(document, 200, { 'Content-Type': 'application/json' });
  });

  routes.get('/errors', limitPage, (c) => page(c, PAGE_POLICY, 'Errors of Vitrine', errorsPage(), STYLE));
  routes.get('/docs', limitPage, (c) =>
    page(
      c,
      DOCS_POLICY,
      'Vitrine API',
      html`<div id="docs"></div>`,
      html`<link rel="stylesheet" href="/docs/swagger-ui.css">
<script src="/docs/swagger-ui-bundle.js" defer></script>
<script src="/docs/init.js" defer></script>`,
    ),
  );
  routes.get('/docs/init.js', (c) =>
    c.body(INIT_SCRIPT, 200, { 'Content-Type': 'text/javascript; charset=utf-8' }),
  );
  for (const [path, { file, type }] of Object.entries(ASSETS)) {
    routes.get(path, async (c) =>
      c.body(await readFile(file), 200, {
        'Content-Type': `${type}; charset=utf-8`,
        'Cache-Control': 'public, max-age=3600',
      }),
    );
  }
  return routes;
}

type Markup = ReturnType<typeof html>;

const STYLE = html`<link rel="stylesheet" href="/docs/pages.css">`;

function page(c: HonoContext, policy: string, title: string, body: Markup, head: Markup | '' = '') {
  c.header('Content-Security-Policy', policy);
  return c.html(html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>${title}</title>
${head}
</head>
<body>
${body}
</body>
</html>`);
}

const errorsPage = (): Markup => html`<h1>Error codes</h1>
<p>Each reply that reports a failure carries one of these as its <code>code</code>. <a href="/">Start page</a></p>
<dl>
${Object.entries(ERRORS).map(
  ([
    code,
    { status, title, suggestion },
  ]) => html`<dt id="${code}"><code>${code}</code> <small>HTTP ${status}</small></dt>
<dd>${title}. ${suggestion}</dd>
`,
)}
</dl>`;
