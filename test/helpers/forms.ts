/** A browser without pages: keeps cookies per server, and presses the button of every form that oidc-provider shows. */
import { request } from 'node:http';

export interface Page {
  readonly status: number;
  readonly location: string | null;
  readonly cookies: readonly string[];
  readonly body: string;
}

/** One request with exactly these headers; fetch would not send some of them. */
export function visit(url: string, headers: Record<string, string> = {}, method = 'GET', body = ''): Promise<Page> {
  return new Promise((done, fail) => {
    const sent = request(url, { method, headers, agent: false }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (piece: string) => {
        text += piece;
      });
      response.on('end', () =>
        done({
          status: response.statusCode ?? 0,
          location: response.headers.location ?? null,
          cookies: response.headers['set-cookie'] ?? [],
          body: text,
        }),
      );
    });
    sent.on('error', fail).end(body);
  });
}

/** Logs `login` in and agrees to everything, until `isThere`; that address is not visited. */
export async function walkForms(start: string, login: string, isThere: (url: URL) => boolean): Promise<URL> {
  const jar = new Map<string, string>();
  const go = async (url: string, form: Record<string, string> | null): Promise<Page> => {
    const cookie = [...jar].map(([name, value]) => `${name}=${value}`).join('; ');
    const type = form === null ? {} : { 'content-type': 'application/x-www-form-urlencoded' };
    const headers = { ...(cookie === '' ? {} : { cookie }), ...type };
    const page = await visit(
      url,
      headers,
      form === null ? 'GET' : 'POST',
      form === null ? '' : `${new URLSearchParams(form)}`,
    );
    for (const line of page.cookies) {
      const [pair = ''] = line.split(';', 1);
      const at = pair.indexOf('=');
      if (pair.slice(at + 1) === '') jar.delete(pair.slice(0, at));
      else jar.set(pair.slice(0, at), pair.slice(at + 1));
    }
    return page;
  };
  let at = start;
  let page = await go(at, null);
  for (let step = 0; step < 12; step++) {
    if (page.location === null) {
      const prompt = page.body.includes('name="login"') ? 'login' : 'consent';
      page = await go(at, { prompt, login, password: 'x' });
      continue;
    }
    at = new URL(page.location, at).href;
    if (isThere(new URL(at))) return new URL(at);
    page = await go(at, null);
  }
  throw new Error(`the login came to no end: ${page.status} ${at}`);
}
