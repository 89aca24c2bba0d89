/** Writes docs/settings.md from the schema: `node tools/settings-doc.ts`. `test/config.test.ts` compares the two. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { configJsonSchema } from '../src/config/json-schema.ts';
import { IDENTITY_SCHEMA } from '../src/modules.ts';

const HEAD = `# Settings

Every setting of the configuration file, generated from the schema the gateway checks it with. NAME stands for a name of
yours, [] for an entry of a list. Times are milliseconds and sizes bytes where the name says so. A setting without a default
may be left out unless it says *required*. [Configuration](configuration.md) explains how they go together.

| Setting | Values | Default | Meaning |
|---|---|---|---|
`;

interface Node {
  readonly type?: string;
  readonly const?: unknown;
  readonly enum?: readonly unknown[];
  readonly default?: unknown;
  readonly description?: string;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly properties?: Readonly<Record<string, Node>>;
  readonly required?: readonly string[];
  readonly additionalProperties?: Node | boolean;
  readonly items?: Node;
  readonly anyOf?: readonly Node[];
  readonly oneOf?: readonly Node[];
}

const branches = (node: Node): readonly Node[] => node.anyOf ?? node.oneOf ?? [];

function values(node: Node): string {
  if (node.const !== undefined) return `\`${String(node.const)}\``;
  if (node.enum !== undefined) return node.enum.map((one) => `\`${String(one)}\``).join(' ');
  if (node.items !== undefined) return `list of ${values(node.items)}`;
  if (branches(node).length > 0) return [...new Set(branches(node).map(values))].join(' or ');
  if (node.type === 'integer' || node.type === 'number') {
    const upper = node.maximum === undefined || node.maximum >= Number.MAX_SAFE_INTEGER ? '' : node.maximum;
    return node.minimum === undefined ? 'number' : `${node.minimum}…${upper}`;
  }
  return node.type === 'string' ? 'text' : node.type === 'boolean' ? 'true, false' : 'section';
}

const cell = (text: string): string => text.replaceAll('|', '\\|');

function row(path: string, node: Node, required: boolean): string {
  const preset =
    node.default === undefined || JSON.stringify(node.default) === '{}' ? '' : JSON.stringify(node.default);
  const meaning = [required ? '*required*' : '', node.description ?? ''].filter((part) => part !== '').join('; ');
  return `| \`${path}\` | ${cell(values(node))} | ${preset === '' ? '' : `\`${cell(preset)}\``} | ${cell(meaning)} |`;
}

/** A section's own members are its rows; what is written as a value or as a section gets a row of its own as well. */
function* rows(node: Node, path: string, required: boolean): Generator<string> {
  const choices = branches(node);
  const members = Object.entries(node.properties ?? {});
  const isLeaf = members.length === 0 && typeof node.additionalProperties !== 'object' && node.items === undefined;
  const listOfValues =
    node.items !== undefined && node.items.properties === undefined && branches(node.items).length === 0;
  const isChoiceOfSections = choices.length > 0 && choices.every(({ properties }) => properties !== undefined);
  if (path !== '' && (listOfValues || isLeaf) && !isChoiceOfSections) {
    yield row(path, node, required);
  }
  for (const [name, inner] of members) {
    yield* rows(
      inner,
      path === '' ? name : `${path}.${name}`,
      node.required?.includes(name) === true && inner.default === undefined,
    );
  }
  if (typeof node.additionalProperties === 'object') yield* rows(node.additionalProperties, `${path}.NAME`, false);
  if (node.items !== undefined && !listOfValues) yield* rows(node.items, `${path}[]`, false);
  for (const choice of choices) {
    if (choice.properties !== undefined || typeof choice.additionalProperties === 'object')
      yield* rows(choice, path, false);
  }
}

/** The document as it should be. */
export function settingsDocument(): string {
  const all = [...rows(configJsonSchema(IDENTITY_SCHEMA) as Node, '', false)];
  return `${HEAD}${[...new Set(all)].join('\n')}\n`;
}

if (import.meta.main) writeFileSync(join(import.meta.dirname, '../docs/settings.md'), settingsDocument());
