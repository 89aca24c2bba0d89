/**
 * Runs once before the suite: tests that compile policies find the compiler ready, instead of several of them building it
 * at the same time inside their own time limits. Without Go and opa they are skipped (with CI=true they fail).
 */
import { findOpa } from '../../src/policy/opa-command.ts';

export default async function setup(): Promise<void> {
  const notice = setTimeout(() => {
    process.stderr.write('Building the policy compiler from tools/opa with Go: once, one to two minutes …\n');
  }, 2000);
  const found = await findOpa();
  clearTimeout(notice);
  if (found.path === null) process.stderr.write(`${found.message}\n`);
}
