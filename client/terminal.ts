import type { Readable, Writable } from 'node:stream';
import pico from 'picocolors';

type Colors = ReturnType<typeof pico.createColors>;
type Environment = Readonly<Record<string, string | undefined>>;

/** npm and a parent process pass on the Ctrl-C that the terminal has sent to us too: that is still the first one. */
const SAME_INTERRUPT_MS = 1000;

export interface TerminalStreams {
  stdin: Readable & { isTTY?: boolean };
  stdout: Writable & { isTTY?: boolean; columns?: number; rows?: number };
  stderr: Writable & { isTTY?: boolean };
}

/** What a command talks through: results on stdout, messages on stderr, colours only where a person looks. */
export interface Terminal {
  readonly streams: TerminalStreams;
  readonly env: Environment;
  /** `--json`: stdout carries JSON and nothing else. */
  readonly json: boolean;
  /** A person can be asked: both ends are a terminal, and the answer is not for a program. */
  readonly interactive: boolean;
  /** A live view can be drawn. */
  readonly live: boolean;
  readonly columns: number;
  readonly rows: number;
  /** Colours of stdout. */
  readonly colors: Colors;
  /** Text for people on stdout; nothing under `--json`. */
  print(text: string): void;
  /** A JSON document on stdout under `--json`; nothing otherwise. */
  document(value: unknown): void;
  /** The same on one line: for commands that report again and again. */
  line(value: unknown): void;
  /** A message on stderr. */
  say(text: string): void;
  /** A message on stderr that should be noticed. */
  warn(text: string): void;
  /** Aborted by the first Ctrl-C (or SIGTERM) from now on; a second one ends the process. */
  interruption(): AbortSignal;
}

export function createTerminal(
  options: { json: boolean; env?: Environment } & Partial<{ streams: TerminalStreams }>,
): Terminal {
  const streams: TerminalStreams = options.streams ?? {
    stdin: process.stdin,
    stdout: process.stdout,
    stderr: process.stderr,
  };
  const env = options.env ?? process.env;
  const plain = (env['NO_COLOR'] ?? '') !== '' || env['TERM'] === 'dumb';
  const colors = pico.createColors(streams.stdout.isTTY === true && !plain && !options.json);
  const errorColors = pico.createColors(streams.stderr.isTTY === true && !plain);
  let interruption: AbortController | undefined;
  return {
    streams,
    env,
    json: options.json,
    interactive: streams.stdin.isTTY === true && streams.stdout.isTTY === true && !options.json,
    live: streams.stdout.isTTY === true && env['TERM'] !== 'dumb' && !options.json,
    // Asked anew each time: windows change. Some pseudo-terminals have no size.
    get columns() {
      return streams.stdout.columns || 100;
    },
    get rows() {
      return streams.stdout.rows || 40;
    },
    colors,
    print: (text) => {
      if (!options.json) streams.stdout.write(`${text}\n`);
    },
    document: (value) => {
      if (options.json) streams.stdout.write(`${JSON.stringify(value, null, 2)}\n`);
    },
    line: (value) => {
      if (options.json) streams.stdout.write(`${JSON.stringify(value)}\n`);
    },
    say: (text) => void streams.stderr.write(`${text}\n`),
    warn: (text) => void streams.stderr.write(`${errorColors.yellow('warning:')} ${text}\n`),
    interruption() {
      if (interruption) return interruption.signal;
      const controller = (interruption = new AbortController());
      let first = 0;
      const onSignal = (signal: NodeJS.Signals): void => {
        if (!controller.signal.aborted) {
          first = Date.now();
          controller.abort();
        } else if (Date.now() - first > SAME_INTERRUPT_MS) process.exit(signal === 'SIGTERM' ? 143 : 130);
      };
      for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, onSignal);
      return controller.signal;
    },
  };
}
