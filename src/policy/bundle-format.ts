/**
 * The files of a compiled bundle: OPA's gzipped tar, and the two files the repository keeps. Source: OPA bundle format
 * (openpolicyagent.org/docs/latest/management-bundles), contracts 3.
 */
import { gunzipSync } from 'node:zlib';
import type { RouteClaim } from './bindings.ts';
import { untar } from './bundle-archive.ts';

/** `policies/bundle/manifest.json`, beside `policy.wasm`. */
export interface BundleManifest {
  /** `sha256:<hex>` over the digest of policy.wasm and of every source, in the order of their names. */
  readonly revision: string;
  /** Lower-case hex SHA-256 of every source by its path below the policy directory, `/` as separator, sorted. */
  readonly sources: Readonly<Record<string, string>>;
  /** Hex SHA-256 of policy.wasm. */
  readonly wasm: string;
  /** Hex SHA-256 of the plan (`plan.json`, unpacked), which explains what the module decides. */
  readonly plan?: string;
  /** Entrypoint path to the number the module knows it by. */
  readonly entrypoints: Readonly<Record<string, number>>;
  /** Routes that the metadata of entrypoints names; absent where it names none. */
  readonly bindings?: readonly RouteClaim[];
  /** Version of the compiler, e.g. `1.22.0`. */
  readonly opa: string;
  /**
   * What the policies read of the input, as paths, sorted; a path covers everything below it. `null`: not known, send
   * all. Elements of `input.calls` are read by the same paths.
   */
  readonly input_paths: readonly (readonly string[])[] | null;
}

/** Bundles above this many bytes unpacked are refused. */
const UNPACKED_LIMIT = 268_435_456;
/** Plain files of a gzipped tar that the compiler here has just made. Throws PolicyLoadError. */
export function readTarGz(archive: Buffer): ReadonlyMap<string, Buffer> {
  return untar(gunzipSync(archive, { maxOutputLength: UNPACKED_LIMIT }));
}
