/** Tables, JSON and a plot of what was measured. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { join } from 'node:path';
import type { Sample } from './load.ts';

export interface Row {
  readonly lane: string;
  readonly name: string;
  readonly samples: readonly Sample[];
}

export const median = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 === 1 ? (sorted[middle] ?? 0) : ((sorted[middle - 1] ?? 0) + (sorted[middle] ?? 0)) / 2;
};

const range = (values: readonly number[], digits = 1) =>
  `${median(values).toFixed(digits)} (${Math.min(...values).toFixed(digits)}–${Math.max(...values).toFixed(digits)})`;

/** One lane as a Markdown table; ratios are against the row named `floor`. */
export function table(rows: readonly Row[]): string {
  const floor = rows.find((row) => row.name === 'floor');
  const base = floor ? median(floor.samples.map((sample) => sample.cpu)) : Number.NaN;
  const lines = [
    '| contender | CPU µs/request | × floor | requests/s | p50 ms | p99 ms | errors |',
    '|---|---|---|---|---|---|---|',
  ];
  for (const { name, samples } of rows) {
    const cpu = samples.map((sample) => sample.cpu);
    lines.push(
      `| ${name} | ${range(cpu)} | ${(median(cpu) / base).toFixed(2)} | ${Math.round(median(samples.map((s) => s.rps)))} | ${median(samples.map((s) => s.p50)).toFixed(2)} | ${median(samples.map((s) => s.p99)).toFixed(2)} | ${samples.reduce((sum, s) => sum + s.errors, 0)} |`,
    );
  }
  return lines.join('\n');
}

/** Writes bench/results/<date>.json and .svg; returns the folder. */
export function save(results: Readonly<Record<string, unknown>>, rows: readonly Row[]): string {
  const folder = join(import.meta.dirname, 'results');
  mkdirSync(folder, { recursive: true });
  const stamp = new Date().toISOString().slice(0, 16).replace(/[:T]/g, '-');
  const machine = { node: process.version, cpu: cpus()[0]?.model, cores: cpus().length };
  writeFileSync(join(folder, `${stamp}.json`), `${JSON.stringify({ machine, results, rows }, null, 2)}\n`);
  writeFileSync(join(folder, `${stamp}.svg`), plot(rows));
  return folder;
}

/** Horizontal bars of CPU per request. */
function plot(rows: readonly Row[]): string {
  const bars = rows.map((row) => ({ label: `${row.lane}: ${row.name}`, value: median(row.samples.map((s) => s.cpu)) }));
  const most = Math.max(...bars.map((bar) => bar.value), 1);
  const lines = bars.map(({ label, value }, i) => {
    const y = 10 + i * 24;
    return `<text x="300" y="${y + 13}" text-anchor="end">${label}</text><rect x="310" y="${y}" width="${(value / most) * 400}" height="18" fill="#4a7"/><text x="${316 + (value / most) * 400}" y="${y + 13}">${value.toFixed(1)} µs</text>`;
  });
  return `<svg xmlns="http://www.w3.org/2000/svg" width="800" height="${bars.length * 24 + 20}" font-family="sans-serif" font-size="12">\n${lines.join('\n')}\n</svg>\n`;
}
