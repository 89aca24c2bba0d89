/**
 * The routes that sources name in their metadata, read without a compiler. A bundle holds what its compiler wrote down of
 * them, and not every compiler writes all: plain `opa build` leaves out the metadata of packages, an older version of this
 * one left out all of it. A route that is lost would be decided by the default entrypoint. Source: policy-engine 7.
 */
import type { JsonValue } from '../core/json.ts';
import { type RouteClaim, routesOf } from './bindings.ts';
import { yamlToJson } from './bundle-yaml.ts';

/** A block of metadata, from its first line on. */
const BLOCK = /^[ \t]*#[ \t]*METADATA.*\r?\n((?:[ \t]*#.*(?:\r?\n|$))+)/gm;

/** What the metadata of this source binds and these claims do not; null: nothing. */
export function lostIn(text: string, claims: readonly RouteClaim[]): string | null {
  if (!text.includes('METADATA') || !text.includes('portcullis')) return null;
  for (const [, block = ''] of text.matchAll(BLOCK)) {
    if (!block.includes('portcullis')) continue;
    const routes = routesIn(block.replaceAll(/^[ \t]*#/gm, ''));
    if (routes === null) return 'metadata that cannot be read';
    const lost = routes.find((route) => !claims.some((claim) => claim.route === route));
    if (lost !== undefined) return `the route ${lost}`;
  }
  return null;
}

function routesIn(yaml: string): readonly string[] | null {
  try {
    const routes = routesOf(JSON.parse(yamlToJson(yaml)) as JsonValue);
    return typeof routes === 'string' ? null : routes;
  } catch {
    return null;
  }
}
