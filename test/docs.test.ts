/**
 * What the documents show is true: configurations load, policies compile, shell sessions run, commands and their options
 * exist, links lead somewhere.
 */

import { randomBytes } from 'node:crypto';
import { cpSync, existsSync, globSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { Readable } from 'node:stream';
import { describe, expect, test } from 'vitest';
import { main } from '../src/cli/cli.ts';
import { COMMANDS } from '../src/cli/commands.ts';
import { loadConfigText } from '../src/config/load.ts';
import { IDENTITY_SCHEMA } from '../src/modules.ts';
import { compile } from '../src/policy/compiler.ts';
import { findOpa } from '../src/policy/opa-command.ts';
import { cleanEnv, freePorts, MAIN, ROOT, runToEnd, startPortcullis, temporaryDirectory } from './helpers/processes.ts';

interface Block {
  /** `docs/keys.md:15` */
  readonly place: string;
  readonly language: string;
  readonly text: string;
}

const FILES = globSync(['*.md', 'docs/**/*.md'], { cwd: ROOT }).toSorted();
const texts = new Map(FILES.map((file) => [file, readFileSync(join(ROOT, file), 'utf8')]));
const blocks = [...texts].flatMap(([file, text]) => blocksOf(file, text));

function blocksOf(file: string, text: string): Block[] {
  const fence = /^( *)```(\w+)\n(.*?)^\1```$/gms;
  return [...text.matchAll(fence)].map((match) => ({
    place: `${file}:${text.slice(0, match.index).split('\n').length}`,
    language: match[2] ?? '',
    text: (match[3] ?? '').replaceAll(new RegExp(`^${match[1]}`, 'gm'), ''),
  }));
}

const inLanguage = (...languages: string[]) => blocks.filter(({ language }) => languages.includes(language));

/** What a fragment may be a part of; a whole configuration names its version. */
const AROUND: readonly ((text: string) => string)[] = [
  (text) => text,
  (text) => `version: 1\n${text}`,
  (text) => `version: 1\nservers:\n  shown:\n${indent(text, 4)}`,
  (text) => `version: 1\nservers:\n  shown:\n    url: "http://127.0.0.1:1/mcp"\n${indent(text, 4)}`,
  (text) =>
    `version: 1\nroutes:\n  - match: /shown\n    protocol: http\n    url: "http://127.0.0.1:1"\n    anonymous: true\n${indent(text, 4)}`,
];

const indent = (text: string, by: number) => text.replaceAll(/^(?=.)/gm, ' '.repeat(by));

function problemsOf(text: string): readonly string[] {
  const names = [...text.matchAll(/\$\{env:(\w+)/g)].map((match) => match[1] ?? '');
  const env = Object.fromEntries(names.map((name) => [name, randomBytes(32).toString('base64url')]));
  const path = join(ROOT, 'shown.yaml');
  return loadConfigText(text, path, { env, providers: IDENTITY_SCHEMA }).problems.map((problem) => problem.text);
}

describe('configurations in the documents', () => {
  test.each(inLanguage('yaml', 'yml').map(({ place, text }) => [place, text]))('%s loads', (_place, text) => {
    const attempts = (/^version:/m.test(text) ? AROUND.slice(0, 1) : AROUND).map((around) => problemsOf(around(text)));
    expect(
      attempts.some((problems) => problems.length === 0),
      attempts.map((each) => each.join('\n')).join('\n\n'),
    ).toBe(true);
  });

  test.each(inLanguage('json').map(({ place, text }) => [place, text]))('%s is JSON', (_place, text) => {
    // A member shown without what is around it.
    const whole = /^\s*"/.test(text) ? `{${text}}` : text;
    expect(() => JSON.parse(whole)).not.toThrow();
  });
});

const compiler = await findOpa();

describe.skipIf(compiler.path === null && process.env.CI !== 'true')('policies in the documents', () => {
  const packages = inLanguage('rego').filter(({ text }) => /^package /m.test(text));
  test.each(packages.map(({ place, text }) => [place, text]))(
    '%s compiles beside the default ones',
    async (place, text) => {
      using directory = temporaryDirectory('portcullis-docs-');
      cpSync(join(ROOT, 'policies'), directory.path, { recursive: true });
      const [name = ''] = /^package [\w.]+/m.exec(text) ?? [];
      const isTest = /_test$/.test(name);
      writeFileSync(join(directory.path, isTest ? 'shown_test.rego' : 'shown.rego'), text);
      const result = await compile(directory.path);
      expect(result.kind === 'rejected' ? result.problems : [], place).toEqual([]);
    },
  );
});

/** Lines of shell blocks and pieces of inline code that call our command line. */
function* calls(): Generator<{ readonly place: string; readonly words: readonly string[] }> {
  for (const { place, text } of inLanguage('sh', 'bash', 'console')) {
    for (const line of text.replaceAll(/\\\n/g, ' ').split('\n')) {
      const [, rest] = /^\$?\s*(?:npx |npm run -s )?portcullis (?:-- )?(.*?)(?:\s+#.*|\s*[|>&].*)?$/.exec(line) ?? [];
      if (rest !== undefined) yield { place, words: rest.split(/\s+/) };
    }
  }
  for (const [file, text] of texts) {
    for (const [, rest = ''] of text.matchAll(/`portcullis ([^`]+)`/g)) yield { place: file, words: rest.split(/\s+/) };
  }
}

async function helpOf(command: string): Promise<string> {
  let text = '';
  const out = (piece: string) => {
    text += piece;
  };
  const signal = new AbortController().signal;
  await main([command, '--help'], { stdin: Readable.from([]), out, err: out, env: {}, cwd: ROOT, signal });
  return text;
}

describe('commands in the documents', () => {
  test('exist, with the options they are shown with', async () => {
    const wrong: string[] = [];
    for (const { place, words } of calls()) {
      const [command = '', ...rest] = words;
      if (command.startsWith('-') || command === 'help' || !/^[a-z]+$/.test(command)) continue;
      if (!COMMANDS.some(({ name }) => name === command)) wrong.push(`${place}: portcullis ${command}`);
      const help = await helpOf(command);
      for (const word of rest) {
        const [option = ''] = /^--[a-z][a-z-]*/.exec(word) ?? [];
        if (option !== '' && !help.includes(option)) wrong.push(`${place}: portcullis ${command} ${option}`);
      }
    }
    expect(wrong).toEqual([]);
  });

  test('of npm are scripts of this package', () => {
    const { scripts } = JSON.parse(readFileSync(join(ROOT, 'package.json'), 'utf8')) as { scripts: object };
    const known = new Set(Object.keys(scripts));
    const wrong = [...texts].flatMap(([file, text]) =>
      [...text.matchAll(/\bnpm (?:run (?:-s )?)([\w:]+)/g)]
        .filter(([, name = '']) => !known.has(name))
        .map(([all]) => `${file}: ${all}`),
    );
    expect(wrong).toEqual([]);
  });
});

test('links between the documents lead somewhere', () => {
  const wrong: string[] = [];
  for (const [file, text] of texts) {
    for (const [, target = ''] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
      if (/^[a-z]+:|^#/.test(target)) continue;
      const [path = ''] = target.split('#');
      if (!existsSync(join(ROOT, dirname(file), path))) wrong.push(`${file}: ${target}`);
    }
  }
  expect(wrong).toEqual([]);
});

/** Shell blocks that drive a clone; others show single commands with places to fill in. */
const sessions = inLanguage('sh', 'bash').filter(({ text }) => text.includes('npm run -s portcullis -- '));

describe('shell sessions in the documents', () => {
  test.each(sessions.map(({ place, text }) => [place, text]))(
    '%s runs as written',
    { timeout: 60_000 },
    async (_place, text) => {
      using work = temporaryDirectory('portcullis-docs-');
      const [port, admin] = await freePorts(2);
      const env = cleanEnv({ PORTCULLIS_PORT: String(port), PORTCULLIS_ADMIN_PORT: String(admin) });
      const lines = text
        .trim()
        .split('\n')
        .map((line) => line.replace('npm run -s portcullis --', 'portcullis'));
      const last = lines.at(-1)?.startsWith('portcullis serve ') ? lines.pop() : undefined;
      const shim = `portcullis() { "${process.execPath}" "${MAIN}" "$@"; }`;
      const done = await runToEnd('bash', ['-euc', [shim, ...lines].join('\n')], { cwd: work.path, env });
      expect(done.code, `${done.stdout}\n${done.stderr}`).toBe(0);
      if (last === undefined) return;
      await using gateway = startPortcullis(last.split(' ').slice(1), { cwd: work.path, env });
      await gateway.printed(/"message":"ready"/);
      gateway.kill('SIGTERM');
      expect((await gateway.exited).code).toBe(0);
    },
  );
});
