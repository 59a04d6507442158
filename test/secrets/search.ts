import { execa } from 'execa';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';

/** A value by a name that may be printed. */
export type Planted = Readonly<Record<string, string>>;

/** How a value may look where it has leaked: as it is, in base64 at any place of a longer text, in hex, in a URL, in JSON. */
export function formsOf(value: string): string[] {
  const bytes = Buffer.from(value);
  const base64 = [0, 1, 2].map((shift) => {
    const encoded = Buffer.concat([Buffer.alloc(shift), bytes]).toString('base64');
    // The characters at both ends also hold bits of the neighbours.
    return encoded.slice(shift === 0 ? 0 : shift + 1, Math.floor(((shift + bytes.length) * 4) / 3));
  });
  return [
    ...new Set([
      value,
      ...base64,
      ...base64.map((text) => text.replaceAll('+', '-').replaceAll('/', '_')),
      bytes.toString('hex'),
      bytes.toString('hex').toUpperCase(),
      encodeURIComponent(value),
      JSON.stringify(value).slice(1, -1),
    ]),
  ];
}

/** Names of the values that a text holds in any form, also inside base64 inside it. */
export function foundIn(text: string, planted: Planted): string[] {
  const layers = [text];
  for (let depth = 0; depth < 3; depth++) {
    const inner = (layers.at(-1) as string).match(/[A-Za-z0-9+/_-]{16,}={0,2}/g) ?? [];
    layers.push(inner.map((token) => Buffer.from(token, 'base64').toString('latin1')).join('\n'));
  }
  const all = layers.join('\n');
  return Object.entries(planted).flatMap(([name, value]) =>
    formsOf(value).some((form) => all.includes(form)) ? [name] : [],
  );
}

/** `NAME in FILE` for every value that a file at or below these paths holds in any form; binary files too. */
export async function foundInFiles(paths: readonly string[], planted: Planted): Promise<string[]> {
  const directory = mkdtempSync(path.join(tmpdir(), 'guardia-needles-'));
  try {
    const found = await Promise.all(
      Object.entries(planted).map(async ([name, value], number) => {
        // In a file: as arguments they would be in the process list that is being searched.
        const needles = path.join(directory, String(number));
        writeFileSync(needles, `${formsOf(value).join('\n')}\n`, { mode: 0o600 });
        const { stdout, exitCode, stderr } = await execa(
          'grep',
          ['-r', '-l', '-a', '-F', '-f', needles, '--', ...paths],
          { reject: false },
        );
        if (exitCode !== undefined && exitCode > 1 && !/No such (file|device)/.test(stderr)) throw new Error(stderr);
        return stdout.split('\n').flatMap((file) => (file === '' ? [] : [`${name} in ${file}`]));
      }),
    );
    return found.flat();
  } finally {
    rmSync(directory, { recursive: true });
  }
}

/**
 * Looks again and again at the arguments and the environment of every process of this machine, those of lab hosts among
 * them, and at the files below `directories`, until `stop`, which returns `NAME in PLACE` for what was seen.
 */
export function watchFor(
  planted: Planted,
  directories: Readonly<Record<string, string>>,
): { stop(): Promise<string[]> } {
  const forms = Object.entries(planted).map(([name, value]) => [name, formsOf(value)] as const);
  const seen = new Set<string>();
  let stopped = false;
  const look = (file: string, place: string): void => {
    let text: string;
    try {
      text = readFileSync(file, 'latin1');
    } catch {
      return; // it has ended, or is gone
    }
    for (const [name, any] of forms) if (any.some((form) => text.includes(form))) seen.add(`${name} in ${place}`);
  };
  const watching = (async () => {
    while (!stopped) {
      for (const pid of readdirSync('/proc')) {
        if (!/^\d+$/.test(pid)) continue;
        look(`/proc/${pid}/cmdline`, 'the arguments of a process');
        look(`/proc/${pid}/environ`, 'the environment of a process');
      }
      for (const [name, directory] of Object.entries(directories))
        for (const file of filesBelow(directory)) look(file, `a file below ${name}`);
      await delay(15);
    }
  })();
  return {
    async stop() {
      stopped = true;
      await watching;
      return [...seen].sort();
    },
  };
}

function filesBelow(directory: string): string[] {
  try {
    return readdirSync(directory, { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => path.join(entry.parentPath, entry.name));
  } catch {
    return []; // it changes while we look
  }
}
