#!/usr/bin/env node
// The process entry. Everything newer than this file's own syntax is imported only once the runtime is known to be
// new enough: an older Node would otherwise answer with a syntax error from somewhere inside.
const major = Number(process.versions.node.split('.')[0]);
if (major < 24) {
  process.stderr.write(`portcullis needs Node.js 24 or newer; this is ${process.versions.node}.\n`);
  process.exitCode = 1;
} else if (process.platform === 'win32') {
  process.stderr.write('portcullis runs on Linux and macOS; on Windows use WSL 2 or the container image.\n');
  process.exitCode = 1;
} else {
  void import('./cli/process.ts').then(({ runProcess }) => runProcess());
}
