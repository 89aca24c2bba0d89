/**
 * The pages people see: plain HTML that works without scripts, may not be framed, and shows nothing as markup that
 * somebody else wrote.
 */
import { hash } from 'node:crypto';
import type { EndpointReply } from '../../protocols/endpoint.ts';

const STYLE =
  'body{font:1rem/1.5 system-ui,sans-serif;margin:0;background:#f4f4f2;color:#1a1a1a}' +
  'main{max-width:26rem;margin:3rem auto;padding:1.5rem 2rem 2rem;background:#fff;border:1px solid #ccc}' +
  'h1{font-size:1.4rem;margin:0 0 1rem}label{display:block;margin:.8rem 0 .2rem}' +
  'input{font:inherit;width:100%;box-sizing:border-box;padding:.5rem;border:1px solid #767676}' +
  'button{font:inherit;padding:.5rem 1.2rem;margin:1.2rem .6rem 0 0;border:1px solid #1a4f8b;background:#fff;color:#1a4f8b}' +
  'button.yes{background:#1a4f8b;color:#fff}dt{font-weight:600;margin-top:.6rem}dd{margin:0;overflow-wrap:anywhere}' +
  '.fault{border-left:4px solid #a40000;padding:.4rem .8rem;background:#fdf0f0}:focus-visible{outline:3px solid #d98e00}';

const STYLE_HASH = hash('sha256', STYLE, 'base64');

const ENTITIES: Readonly<Record<string, string>> = {
  ...{ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' },
  ...{ "'": '&#39;', '`': '&#96;' },
};

/** Text as text, in elements and in quoted attributes; direction marks and control characters are shown as what they are. */
export function escapeHtml(text: string): string {
  return text.replaceAll(/[&<>"'`]/g, (sign) => ENTITIES[sign] ?? '').replaceAll(/[\p{Cc}\p{Cf}]/gu, '\uFFFD');
}

export interface Page {
  readonly headers: Readonly<Record<string, string>>;
  readonly text: string;
}

/** @param leadsTo where a form of the page may end up besides here: a source of the policy, or null */
function page(title: string, content: string, leadsTo: string | null): Page {
  const policy =
    `default-src 'none'; style-src 'sha256-${STYLE_HASH}'; base-uri 'none'; frame-ancestors 'none'; ` +
    `form-action 'self'${leadsTo === null ? '' : ` ${leadsTo}`}`;
  return {
    headers: {
      'content-type': 'text/html; charset=utf-8',
      'cache-control': 'no-store',
      'content-security-policy': policy,
      'x-frame-options': 'DENY',
      'x-content-type-options': 'nosniff',
      // Without any a browser would not say either where a form comes from.
      'referrer-policy': 'same-origin',
    },
    text:
      `<!doctype html><html lang="en"><head><meta charset="utf-8"><title>${escapeHtml(title)}</title>` +
      `<meta name="viewport" content="width=device-width,initial-scale=1"><style>${STYLE}</style></head>` +
      `<body><main><h1>${escapeHtml(title)}</h1>${content}</main></body></html>`,
  };
}

/** As an endpoint replies. */
export function shown(
  status: number,
  { headers, text }: Page,
  more: Readonly<Record<string, string>> = {},
): EndpointReply {
  return { status, headers: { ...headers, ...more }, text };
}

export interface FormFacts {
  /** Where the form is sent: the page may stand at another address. */
  readonly action: string;
  /** Proves that the form was asked for here. */
  readonly csrf: string;
  readonly clientName: string | null;
  readonly clientId: string;
  readonly redirectUri: string;
}

/** The host, or the scheme of an app, that an address leads to. */
export function leadsTo(redirectUri: string): { readonly shown: string; readonly source: string | null } {
  const url = URL.parse(redirectUri);
  if (url === null) return { shown: redirectUri, source: null };
  const isWeb = url.protocol === 'https:' || url.protocol === 'http:';
  return isWeb ? { shown: url.host, source: url.origin } : { shown: `${url.protocol} (an app)`, source: url.protocol };
}

const field = (name: string, value: string): string =>
  `<input type="hidden" name="${name}" value="${escapeHtml(value)}">`;

const form = ({ action, csrf }: FormFacts): string =>
  `<form method="post" action="${escapeHtml(action)}">${field('csrf', csrf)}`;

const faultText = (fault: string | null): string =>
  fault === null ? '' : `<p class="fault" role="alert">${escapeHtml(fault)}</p>`;

/** A name that fills the page would hide what else it says. */
const MAX_NAME = 80;

const clientText = ({ clientName, clientId }: FormFacts): string =>
  escapeHtml((clientName ?? clientId).slice(0, MAX_NAME));

/** Another way to log in than with a password of ours. */
export interface LoginLink {
  readonly name: string;
  readonly href: string;
}

// Links: where a form ends up besides here would have to be told to the browser beforehand.
const linkList = (links: readonly LoginLink[]): string =>
  links.map(({ name, href }) => `<p><a href="${escapeHtml(href)}">Log in with ${escapeHtml(name)}</a></p>`).join('');

/** Asks who it is. `username` is what was typed before. */
export function loginPage(facts: FormFacts, links: readonly LoginLink[], username: string, fault: string | null): Page {
  const content =
    `<p><strong>${clientText(facts)}</strong> wants to act for you. Log in to go on.</p>${faultText(fault)}` +
    `${linkList(links)}${form(facts)}${field('action', 'login')}` +
    `<label for="username">Username</label><input id="username" name="username" autocomplete="username" ` +
    `autocapitalize="none" spellcheck="false" required maxlength="254" value="${escapeHtml(username)}">` +
    '<label for="password">Password</label><input id="password" name="password" type="password" ' +
    'autocomplete="current-password" required maxlength="1024">' +
    '<label for="code">One-time code, if your account has one</label><input id="code" name="code" ' +
    'autocomplete="one-time-code" maxlength="64">' +
    '<button class="yes" type="submit">Log in</button></form>' +
    `${form(facts)}<button name="action" value="deny">Cancel</button></form>`;
  return page('Log in', content, leadsTo(facts.redirectUri).source);
}

export interface ConsentFacts extends FormFacts {
  readonly username: string;
  readonly resources: readonly string[];
  readonly scopes: readonly string[];
  /** Asked for as well, but not this account's to give. */
  readonly withheld: readonly string[];
}

/** Asks whether this client may act for somebody. */
export function consentPage(facts: ConsentFacts): Page {
  const target = leadsTo(facts.redirectUri);
  const list = (values: readonly string[]) => values.map((value) => `<dd>${escapeHtml(value)}</dd>`).join('');
  const content =
    `<p><strong>${clientText(facts)}</strong> wants to act for you, <strong>${escapeHtml(facts.username)}</strong>, with ` +
    'everything your account may do there. The name is what it calls itself: nobody has checked it.</p>' +
    `<dl><dt>You will be sent to</dt><dd>${escapeHtml(target.shown)}</dd>` +
    `<dt>Client</dt><dd>${escapeHtml(facts.clientId)}</dd>` +
    `<dt>It may use</dt>${list(facts.resources)}` +
    `<dt>Scopes</dt>${list(facts.scopes)}` +
    `${facts.withheld.length === 0 ? '' : `<dt>Not given: your account does not have them</dt>${list(facts.withheld)}`}</dl>` +
    '<p>Did you not begin this yourself a moment ago? Then say no.</p>' +
    `${form(facts)}<button class="yes" name="action" value="allow">Allow</button>` +
    '<button name="action" value="deny">No</button>' +
    '<button name="action" value="switch">Use another account</button></form>';
  return page('Allow access?', content, target.source);
}

/** Says what went wrong; nothing on it leads anywhere. */
export function errorPage(code: string, description: string | null): Page {
  const detail = description === null ? '' : `<p>${escapeHtml(description)}</p>`;
  const content = `${detail}<p>Code: ${escapeHtml(code)}. Go back to your agent and begin again.</p>`;
  return page('This did not work', content, null);
}
