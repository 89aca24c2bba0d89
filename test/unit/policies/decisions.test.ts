import { readFileSync } from 'node:fs';
import { beforeAll, describe, expect, test } from 'vitest';
import { policyInput } from '../../helpers/policy-input.ts';
import type { SdkPolicy } from '../../helpers/policy-sdk.ts';
import { sdkPolicy } from '../../helpers/policy-sdk.ts';
import { verifies } from '../../helpers/verifies.ts';

const root = new URL('../../../', import.meta.url);
const read = (path: string): string => readFileSync(new URL(path, root), 'utf8');
const json = (path: string): unknown => JSON.parse(read(path));

interface Decision {
  readonly allow: boolean;
  readonly deny: readonly { readonly package: string; readonly code: string; readonly message: string }[];
  readonly obligations: readonly unknown[];
  readonly valid_until: number | null;
}

interface Row {
  readonly role: string;
  readonly tool_type: string;
  readonly sensitivity_level: string;
  readonly production: boolean;
  readonly approved: boolean;
  readonly allow: boolean;
}

let strict: SdkPolicy;
let relaxed: SdkPolicy;

beforeAll(async () => {
  const wasm = readFileSync(new URL('policies/bundle/policy.wasm', root));
  strict = await sdkPolicy(wasm, json('policies/profiles/strict.json') as object);
  relaxed = await sdkPolicy(wasm, json('policies/data.json') as object);
});

function decide(input: unknown, policy = strict): Decision {
  return policy.evaluate(input, 'portcullis/main/decision') as Decision;
}

function texts(input: unknown, entrypoint: string): string[] {
  return (strict.evaluate(input, entrypoint) as string[]).sort();
}

describe('the golden matrix', () => {
  const rows = json('test/corpus/policy/matrix.json') as Row[];

  test('allows 126 of 480 cases: admin 84, developer 16, analyst 8, data_engineer 18, none 0', () => {
    verifies('S-30', 'S-31', 'S-32', 'S-33', 'S-34', 'S-36', 'S-37', 'SF-30');
    const allowed: Record<string, number> = {};
    for (const row of rows) allowed[row.role] = (allowed[row.role] ?? 0) + (row.allow ? 1 : 0);
    expect(rows).toHaveLength(480);
    expect(allowed).toEqual({ admin: 84, developer: 16, analyst: 8, data_engineer: 18, none: 0 });
  });

  test('is what the compiled module answers, alone and combined', () => {
    verifies('S-35', 'SF-32', 'SF-37');
    for (const row of rows) {
      const input = policyInput(row);
      expect(strict.evaluate(input, 'mcp/gateway/allow'), JSON.stringify(row)).toBe(row.allow);
      expect(decide(input).allow, JSON.stringify(row)).toBe(row.allow);
    }
  });

  test('is the same when each role asks for a list of its classes', () => {
    for (const role of ['admin', 'developer', 'analyst', 'data_engineer', 'none']) {
      for (const production of [false, true]) {
        const own = rows.filter((row) => row.role === role && row.production === production && row.approved);
        const calls = own.map(({ tool_type, sensitivity_level }) => ({
          action: 'gateway:tool:discover',
          gateway_metadata: { tool_type, sensitivity_level },
        }));
        const input = {
          ...policyInput({ role, production }),
          action: 'gateway:tool:discover',
          parameters: null,
          calls,
        };
        const decisions = strict.evaluate(input, 'portcullis/main/decisions') as Decision[];
        expect(decisions.map(({ allow }) => allow)).toEqual(own.map(({ allow }) => allow));
      }
    }
  });
});

test('several roles allow what any of them allows, and a denial still wins', () => {
  verifies('S-38');
  const input = policyInput({ role: 'analyst' });
  expect(decide({ ...input, user: { ...input.user, roles: ['analyst', 'developer'] } }).allow).toBe(true);
  const abroad = { ...input.gateway_metadata, source_region: 'cn-north-1' };
  expect(decide({ ...input, user: { ...input.user, roles: ['admin'] }, gateway_metadata: abroad }).allow).toBe(false);
});

test('the read set of the manifest is enough to decide', () => {
  const { input_paths } = json('policies/bundle/manifest.json') as { input_paths: string[][] };
  const abroad = { source_region: 'cn-north-1', encryption_enabled: false };
  for (const row of json('test/corpus/policy/matrix.json') as Row[]) {
    const input = policyInput(row);
    const worse = {
      ...input,
      gateway_metadata: { ...input.gateway_metadata, ...abroad },
      server: { ...input.server, tags: ['phi'] },
    };
    for (const whole of [input, worse]) expect(decide(project(whole, input_paths))).toEqual(decide(whole));
  }
});

/** The document with nothing but the given paths. */
function project(document: unknown, paths: readonly (readonly string[])[]): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const path of paths) {
    let [from, to] = [document as Record<string, unknown> | null | undefined, out];
    for (const [index, name] of path.entries()) {
      if (from === null || from === undefined || !(name in from)) break;
      if (index === path.length - 1 || from[name] === null) to[name] = from[name];
      else to[name] ??= {};
      if (to[name] === null) break;
      [from, to] = [from[name] as Record<string, unknown>, to[name] as Record<string, unknown>];
    }
  }
  return out;
}

describe('three evaluations by hand', () => {
  test('delegation follows trust and depth', () => {
    verifies('S-42', 'S-57', 'SF-35');
    const ask = (depth: unknown): unknown =>
      strict.evaluate(
        {
          action: 'a2a:delegate',
          source_user: { id: 'a', roles: ['admin'], tenure_months: 24 },
          target_user: { id: 'b', roles: ['developer'], tenure_months: 6 },
          delegation_depth: depth,
        },
        'mcp/gateway/trust/allow_delegation',
      );
    expect([0, 1, 4, 5, -1, -7, 1.5, '1', null].map(ask)).toEqual([
      true,
      true,
      true,
      false,
      false,
      false,
      false,
      false,
      false,
    ]);
  });

  test('critical work on a Saturday evening meets both objections', () => {
    verifies('S-47', 'S-48', 'SF-31');
    strict.at('2025-01-18T20:00:00Z');
    const input = { action: 'gateway:tool:invoke', gateway_metadata: { sensitivity_level: 'critical' } };
    expect(texts(input, 'mcp/gateway/trust/deny')).toEqual([
      'Critical operations not allowed on weekends',
      'Critical operations only allowed during work hours (9 AM - 5 PM UTC)',
    ]);
    strict.at('2025-01-15T10:30:00Z');
  });

  test('a region outside the list is named as OPA itself would write it', () => {
    verifies('S-50', 'SF-40');
    const input = { action: 'gateway:tool:invoke', gateway_metadata: { source_region: 'cn-north-1' } };
    expect(texts(input, 'mcp/gateway/context/deny')).toEqual([
      'Access denied from region: cn-north-1. Allowed regions: {"eu-west-1", "us-east-1", "us-west-2"}',
    ]);
  });
});

test('the day and the hour are judged in UTC, to the second', () => {
  verifies('S-44', 'S-45');
  const edges: readonly [string, boolean][] = [
    ['2025-01-15T08:59:59Z', false],
    ['2025-01-15T09:00:00Z', true],
    ['2025-01-15T16:59:59Z', true],
    ['2025-01-15T17:00:00Z', false],
    ['2025-01-17T16:59:59Z', true],
    ['2025-01-18T10:00:00Z', false],
    ['2025-01-20T09:00:00Z', true],
  ];
  const input = policyInput({ role: 'admin', tool_type: 'admin', sensitivity_level: 'critical', approved: true });
  for (const [instant, allowed] of edges) {
    strict.at(instant);
    expect(decide(input).allow, instant).toBe(allowed);
  }
  strict.at('2025-01-15T10:30:00Z');
});

describe('trust', () => {
  test('comes from role and tenure', () => {
    verifies('S-40', 'S-41');
    const level = (roles: string[], tenure_months: number | null): unknown =>
      strict.evaluate({ user: { roles, tenure_months } }, 'mcp/gateway/trust/user_trust_level');
    expect(level(['admin'], 24)).toBe('critical');
    expect(level(['admin'], 12)).toBe('critical');
    expect(level(['admin'], 11)).toBe('high');
    expect(level(['admin'], null)).toBe('high');
    expect(level(['developer'], 6)).toBe('high');
    expect(level(['developer'], 5)).toBe('medium');
    expect(level(['analyst'], 50)).toBe('low');
    expect(level(['guest'], 50)).toBe('untrusted');
  });

  test('bounds the depth of a delegation', () => {
    verifies('S-43');
    const depth = (roles: string[], tenure_months: number): unknown =>
      strict.evaluate({ source_user: { roles, tenure_months } }, 'mcp/gateway/trust/max_delegation_depth');
    expect([
      depth(['admin'], 12),
      depth(['developer'], 6),
      depth(['developer'], 0),
      depth(['analyst'], 9),
      depth([], 9),
    ]).toEqual([5, 3, 2, 1, 1]);
  });
});

describe('the decision document', () => {
  test('carries consent and its limit in time for a critical call', () => {
    verifies('S-46');
    const decision = decide(policyInput({ role: 'admin', tool_type: 'admin', sensitivity_level: 'critical' }));
    expect(decision.deny.map(({ code }) => code)).toEqual(['APPROVAL_REQUIRED']);
    expect(decision.obligations).toEqual([{ type: 'require_approval' }]);
    expect(decision.valid_until).toBe(Date.parse('2025-01-15T17:00:00Z') * 1e6);
  });

  test('keeps no time for calls that never asked for it', () => {
    expect(decide(policyInput()).valid_until).toBeNull();
  });

  test('lets the limit of a role pass and refuses one more', () => {
    verifies('S-51', 'S-52', 'SF-34');
    const at = (role: string, count: number): string[] => {
      const input = { ...policyInput({ role, tool_type: 'analytics' }), rate_limit: { window_seconds: 60, count } };
      return decide(input).deny.map(({ code, message }) => `${code} ${message}`);
    };
    for (const [role, limit] of [
      ['admin', 1000],
      ['developer', 500],
      ['data_engineer', 500],
      ['analyst', 100],
    ] as const) {
      expect(at(role, limit - 1)).toEqual([]);
      expect(at(role, limit)).toEqual([`RATE_LIMIT_EXCEEDED Rate limit exceeded: ${limit} requests/min allowed`]);
    }
  });

  test('names data that may not leave, health data in the clear, a missing factor and a strange device', () => {
    verifies('S-53', 'S-54', 'S-55', 'S-56', 'SF-36');
    const input = policyInput({ role: 'admin', sensitivity_level: 'critical', approved: true });
    const { mfa_verified: _, ...user } = input.user;
    const { device_compliant: __, encryption_enabled: ___, ...gateway_metadata } = input.gateway_metadata;
    const server = { ...input.server, data_region: 'eu', tags: ['phi'] };
    const decision = decide({ ...input, user, server, gateway_metadata });
    expect(decision.deny.map(({ message }) => message).sort()).toEqual([
      'Device compliance check required for critical operations',
      'GDPR violation: EU data can only be accessed from EU regions',
      'HIPAA violation: Encryption required for healthcare data access',
      'MFA required for high-sensitivity operations',
    ]);
  });

  test('gives every denial a reason', () => {
    for (const input of [{}, { action: 'invented' }, { user: null }, policyInput({ role: 'guest' }), []]) {
      const decision = decide(input);
      expect(decision.allow).toBe(false);
      expect(decision.deny.length).toBeGreaterThan(0);
    }
  });
});

test('taking any fact away never allows what was denied', () => {
  verifies('SF-33');
  const base = policyInput({ role: 'admin', sensitivity_level: 'critical', approved: true });
  const denied = [
    { ...base, user: { ...base.user, mfa_verified: false } },
    { ...base, gateway_metadata: { ...base.gateway_metadata, device_compliant: false } },
    { ...base, gateway_metadata: { ...base.gateway_metadata, source_region: 'cn-north-1' } },
    { ...base, rate_limit: { window_seconds: 60, count: 1000 } },
    {
      ...base,
      server: { ...base.server, tags: ['phi'] },
      gateway_metadata: { ...base.gateway_metadata, encryption_enabled: false },
    },
    { ...base, server: { ...base.server, data_region: 'eu' }, data_region: 'eu' },
  ];
  let tried = 0;
  for (const input of denied) {
    expect(decide(input).allow).toBe(false);
    for (const [group, name] of factPaths(input)) {
      const copy = structuredClone(input) as unknown as Record<string, Record<string, unknown>>;
      if (name === null) delete copy[group];
      else delete copy[group]?.[name];
      expect(decide(copy).allow, `${group}.${name}`).toBe(false);
      tried += 1;
    }
  }
  expect(tried).toBeGreaterThan(300);
});

function factPaths(input: object): [string, string | null][] {
  return Object.entries(input).flatMap(([group, value]): [string, string | null][] => [
    // The server's entry is the host's own knowledge and never left out as a whole.
    ...(group === 'server' ? [] : [[group, null] as [string, null]]),
    ...(value !== null && typeof value === 'object' && !Array.isArray(value)
      ? Object.keys(value).map((name): [string, string] => [group, name])
      : []),
  ]);
}

describe('the two data profiles', () => {
  test('differ in regions and in what each level asks for, and in nothing else', () => {
    verifies('SF-38', 'SF-39');
    const config = (path: string) => (json(path) as { config: Record<string, unknown> }).config;
    const [usual, seeded] = [config('policies/data.json'), config('policies/profiles/strict.json')];
    const differing = Object.keys(usual).filter((key) => JSON.stringify(usual[key]) !== JSON.stringify(seeded[key]));
    expect(differing.sort()).toEqual(['allowed_regions', 'levels', 'profile']);
    expect(seeded.allowed_regions).toEqual(['eu-west-1', 'us-east-1', 'us-west-2']);
    expect(seeded.levels).toEqual({ low: [], medium: [], high: ['mfa'], critical: ['mfa', 'device', 'work_hours'] });
  });

  test('the default one works from anywhere, at any time, with an API key', () => {
    relaxed.at('2025-01-18T20:00:00Z');
    const input = policyInput({ role: 'admin', tool_type: 'mutation', sensitivity_level: 'high' });
    const gateway_metadata = {
      ...input.gateway_metadata,
      source_region: 'unknown',
      device_compliant: false,
      encryption_enabled: false,
    };
    expect(decide({ ...input, gateway_metadata, user: { ...input.user, mfa_verified: false } }, relaxed).allow).toBe(
      true,
    );
  });
});
