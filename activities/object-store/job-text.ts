import { readFileSync } from 'node:fs';
import { failure } from '../../workflows/contracts/errors.js';

/** What a job on a host is made of: fits `command` and `stdin` of the `job` primitive. */
export interface ArtifactJob {
  script: string;
  /** NAME=VALUE, none of them secret. */
  args: string[];
  /** Secret. */
  stdin: Buffer;
}

const read = (url: URL): string => readFileSync(url, 'utf8');
const frame = read(new URL('./job-frame.sh', import.meta.url));
const upload = read(new URL('./part-upload.sh', import.meta.url));
const download = read(new URL('./object-download.sh', import.meta.url));

/** One script out of the frame, the transfer and its own parts, in this order. */
export function scriptOf(transfer: 'upload' | 'download' | 'none', ...parts: URL[]): string {
  return [frame, { upload, download, none: '' }[transfer], ...parts.map(read)].join('\n');
}

/** `NAME=VALUE` for each value; lists repeat the name, undefined is left out. */
export function argumentsOf(values: Record<string, string | number | readonly string[] | undefined>): string[] {
  return Object.entries(values).flatMap(([name, value]) => {
    if (value === undefined) return [];
    return (typeof value === 'object' ? value : [value]).map((item) => `${name}=${item}`);
  });
}

/**
 * Lines of NAME=VALUE for the script's standard input.
 * Throws `SecretUnavailable`, naming the secret and never its value, when one cannot be a line.
 */
export function secretLines(values: Record<string, string | undefined>): Buffer {
  const lines = Object.entries(values).flatMap(([name, value]) => {
    if (value === undefined) return [];
    if (/[\0\n\r]/.test(value))
      throw failure('SecretUnavailable', `the secret ${name} holds a line break or NUL, and goes by a line`, {
        remedy: 'Keep a value of several lines in a file of its own, or encode it',
      });
    return [`${name}=${value}\n`];
  });
  return Buffer.from(lines.join(''));
}
