import { existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { type Browser, chromium, type Page } from 'playwright-core';
import { expect } from 'vitest';
import type { Context } from '../../../src/context.ts';
import { startServer } from '../../../src/http/server.ts';
import { createTestContext } from '../../support/context.ts';

const EXECUTABLES = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

/** Why there is no browser to test with; null when there is one. In CI it throws, so that the suite fails. */
export function whyNoBrowser(): string | null {
  if (EXECUTABLES.some(existsSync)) return null;
  const reason = 'Chromium is not installed: run `apt-get install chromium`';
  if (process.env['CI']) throw new Error(reason);
  return reason;
}

export const PHONE = { width: 360, height: 740 } as const;
export const WIDE = { width: 1280, height: 900 } as const;

export interface Visit {
  readonly context: Context;
  readonly url: string;
  readonly page: Page;
  /** Opens a view, such as `#/queue`. */
  open(hash?: string): Promise<void>;
  /** Fails when axe finds anything in what is shown now. */
  checkAccessibility(): Promise<void>;
}

export interface VisitOptions {
  readonly environment?: Readonly<Record<string, string>>;
  readonly viewport?: { readonly width: number; readonly height: number };
  readonly colorScheme?: 'light' | 'dark';
  readonly hasTouch?: boolean;
  /** Requests that are refused on purpose; the browser reports each in its console. */
  readonly expectsRefusals?: boolean;
}

let browser: Promise<Browser> | undefined;
const launch = () =>
  chromium.launch({
    executablePath: EXECUTABLES.find(existsSync) ?? '',
    args: ['--no-sandbox', '--disable-dev-shm-usage'],
  });

export async function closeBrowser(): Promise<void> {
  await (await browser)?.close();
  browser = undefined;
}

/**
 * Serves Vitrine and opens its page in a browser. The work fails when the page reports an error or a warning, or asks
 * another origin for anything.
 */
export async function visit(options: VisitOptions, work: (visit: Visit) => Promise<void>): Promise<void> {
  const {
    environment = {},
    viewport = WIDE,
    colorScheme = 'light',
    expectsRefusals = false,
    hasTouch = false,
  } = options;
  browser ??= launch();
  await using context = await createTestContext({ PORT: '0', RATE_LIMIT_PER_ADDRESS: '0', ...environment });
  const server = await startServer(context);
  const tab = await (await browser).newContext({
    viewport,
    colorScheme,
    hasTouch,
    isMobile: hasTouch,
    reducedMotion: 'reduce',
  });
  try {
    const page = await tab.newPage();
    page.setDefaultTimeout(15_000);
    const faults: string[] = [];
    page.on('console', (message) => {
      const isRefusal = expectsRefusals && message.text().startsWith('Failed to load resource');
      if (['error', 'warning'].includes(message.type()) && !isRefusal) faults.push(message.text());
    });
    page.on('pageerror', (error) => faults.push(error.message));
    page.on('request', (request) => {
      const address = request.url();
      if (!address.startsWith(server.url) && !/^(data|blob):/.test(address)) faults.push(`asked ${address}`);
    });
    await work({
      context,
      url: server.url,
      page,
      async open(hash = '') {
        await page.goto(`${server.url}/${hash}`);
        await page.locator('main h1, main h2').first().waitFor();
      },
      checkAccessibility: () => checkAccessibility(page),
    });
    expect(faults).toEqual([]);
  } finally {
    await tab.close();
    await server.stop();
  }
}

const axe = createRequire(import.meta.url).resolve('axe-core/axe.min.js');

async function checkAccessibility(page: Page): Promise<void> {
  // The page's policy lets no other script in; the browser's own tools may evaluate one.
  const { readFile } = await import('node:fs/promises');
  await page.evaluate(await readFile(axe, 'utf8'));
  const found = await page.evaluate(
    `axe.run(document, { resultTypes: ['violations'] }).then(({ violations }) =>
       violations.map(({ id, nodes }) => id + ': ' + nodes.map(({ html }) => html).join(' | ')))`,
  );
  expect(found).toEqual([]);
}
