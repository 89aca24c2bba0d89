/** A real browser for the pages of an authorization server; Debian's chromium, driven by playwright-core. */
import { existsSync } from 'node:fs';
import { type Browser, chromium, type Page } from 'playwright-core';

const PROGRAMS = ['/usr/bin/chromium', '/usr/bin/chromium-browser', '/usr/bin/google-chrome'];

/** Where the browser is, or null: tests that need one are skipped, naming the Debian package `chromium`. */
export const BROWSER = PROGRAMS.find((file) => existsSync(file)) ?? null;

/** Why a test is skipped. With CI=true nothing is skipped, so that it fails there. */
export const NO_BROWSER =
  BROWSER === null && process.env.CI !== 'true' ? ' (skipped: install the Debian package chromium)' : '';

export async function openBrowser(): Promise<Browser> {
  if (BROWSER === null) throw new Error('no browser: install the Debian package chromium');
  return chromium.launch({ executablePath: BROWSER, args: ['--no-sandbox', '--disable-gpu', '--no-proxy-server'] });
}

/** Goes through login and consent of oidc-provider's own pages; resolves when `isThere` is true of the address. */
export async function logIn(page: Page, start: string, name: string, isThere: (url: URL) => boolean): Promise<URL> {
  await page.goto(start);
  await page.fill('input[name=login]', name);
  await page.fill('input[name=password]', 'anything');
  await page.click('button[type=submit]');
  // The consent page has one button; where everything was granted before there is no such page.
  await page.waitForURL((url) => isThere(url) || url.pathname.startsWith('/interaction/'));
  if (!isThere(new URL(page.url()))) await page.click('button[type=submit]');
  await page.waitForURL(isThere);
  return new URL(page.url());
}
