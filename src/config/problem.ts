/** What can be wrong with a configuration, and where. Source: acceptance X-08. */

export type Path = readonly (string | number)[];

/** Where a value was written: a place in a file, or the environment variable it came from. */
export interface Place {
  /** File name, or `environment variable NAME`. */
  readonly source: string;
  /** 1-based; 0 when there is no line. */
  readonly line: number;
  readonly column: number;
}

export interface Problem extends Place {
  readonly severity: 'error' | 'warning';
  /** Dotted path in the configuration, e.g. `routes[0].server`; empty for the whole. */
  readonly path: string;
  /** A sentence; never holds a secret's value. */
  readonly message: string;
  /** `file:line:column: path: message`, the form editors and terminals make clickable. */
  readonly text: string;
}

/** Makes a problem and its text. */
export function problem(severity: Problem['severity'], path: Path, message: string, place: Place): Problem {
  const at = place.line === 0 ? place.source : `${place.source}:${place.line}:${place.column}`;
  const dotted = pathText(path);
  const text = `${at}: ${severity === 'warning' ? 'warning: ' : ''}${dotted === '' ? '' : `${dotted}: `}${message}`;
  const { source, line, column } = place;
  return { severity, path: dotted, message, text, source, line, column };
}

/** `['routes', 0, 'server']` as `routes[0].server`. */
export function pathText(path: Path): string {
  let text = '';
  for (const part of path) {
    if (typeof part === 'number') text += `[${part}]`;
    else if (/^[\w-]+$/.test(part)) text += text === '' ? part : `.${part}`;
    else text += `[${JSON.stringify(part)}]`;
  }
  return text;
}

/** Remembers the place of every key and value by path. */
export class Places {
  readonly #file: string;
  readonly #values = new Map<string, Place>();
  readonly #keys = new Map<string, Place>();

  constructor(file: string) {
    this.#file = file;
  }

  static #key(path: Path): string {
    return path.join('\0');
  }

  set(path: Path, place: Place, key?: Place): void {
    this.#values.set(Places.#key(path), place);
    if (key !== undefined) this.#keys.set(Places.#key(path), key);
  }

  /** The place of the value, or of the nearest thing around it that was written. */
  of(path: Path): Place {
    for (let length = path.length; length >= 0; length--) {
      const part = path.slice(0, length);
      const exact = length === path.length ? this.#values.get(Places.#key(part)) : this.ofKey(part);
      if (exact !== undefined) return exact;
    }
    return { source: this.#file, line: 1, column: 1 };
  }

  /** The place of the key itself, for problems with its name. */
  ofKey(path: Path): Place | undefined {
    return this.#keys.get(Places.#key(path)) ?? this.#values.get(Places.#key(path));
  }
}

/** Edit distance with transpositions, cut off at 3: enough for a typo. */
function distance(a: string, b: string): number {
  if (Math.abs(a.length - b.length) > 2) return 3;
  let before: number[] = [];
  let previous = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const change = (previous[j - 1] ?? 0) + (a[i - 1] === b[j - 1] ? 0 : 1);
      let best = Math.min(change, (previous[j] ?? 0) + 1, (row[j - 1] ?? 0) + 1);
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        best = Math.min(best, (before[j - 2] ?? 0) + 1);
      row.push(best);
    }
    before = previous;
    previous = row;
  }
  return previous[b.length] ?? 3;
}

/** ` (did you mean "listen"?)` for the nearest known name, or nothing. */
export function suggestion(name: string, known: Iterable<string>): string {
  let best = '';
  let least = 3;
  const wanted = name.toLowerCase().replaceAll('-', '_');
  for (const candidate of known) {
    const other = candidate.toLowerCase().replaceAll('-', '_');
    const steps = distance(wanted, other);
    const allowed = Math.min(wanted.length, other.length) <= 3 ? 1 : 2;
    if (steps < least && steps <= allowed) {
      best = candidate;
      least = steps;
    }
  }
  return best === '' ? '' : ` (did you mean "${best}"?)`;
}

/** The line to print for a problem. */
export function problemText(problem: Problem): string {
  return problem.text;
}
