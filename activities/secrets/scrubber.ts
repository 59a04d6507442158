import type { Secret } from './secret.js';
import { secretForms } from './secret-forms.js';

/** A part of a secret at the edge of a text is taken out from this length on. Characters. */
const SHORTEST_PIECE = 8;

/**
 * Takes secrets out of text and bytes that leave the worker: each occurrence of a remembered value, in any of the forms of
 * secret-forms.ts, becomes `[secret NAME]`. Also a piece of eight or more characters of one that is cut off at the beginning or
 * the end of the text. Not found: values of fewer than four characters and other encodings.
 */
export interface Scrubber {
  remember(secret: Secret): void;
  scrub(text: string): string;
  /** For output that comes in pieces: holds back what may be the beginning of a secret, and nothing else. */
  textStream(): ScrubStream<string>;
  /** The same for bytes, where a piece may end within a character. */
  byteStream(): ScrubStream<Buffer>;
}

export interface ScrubStream<Chunk> {
  push(chunk: Chunk): Chunk;
  /** What was held back. */
  end(): Chunk;
}

export function createScrubber(): Scrubber {
  const texts = new Needles();
  // Bytes are searched as text of one character for each byte.
  const bytes = new Needles();
  const known = new Set<string>();
  return {
    remember(secret) {
      const value = secret.reveal();
      if (known.has(value)) return;
      known.add(value);
      const forms = secretForms(value);
      texts.add(forms, String(secret));
      bytes.add(
        forms.map((form) => Buffer.from(form, 'utf8').toString('latin1')),
        String(secret),
      );
    },
    scrub: (text) => withoutPieces(text, texts),
    textStream: () => scrubStream(texts),
    byteStream() {
      const stream = scrubStream(bytes);
      const encode = (text: string) => Buffer.from(text, 'latin1');
      return { push: (chunk) => encode(stream.push(chunk.toString('latin1'))), end: () => encode(stream.end()) };
    },
  };
}

/** What is searched for, and what is shown instead of it. */
class Needles {
  readonly #shown = new Map<string, string>();
  /** Longest first. */
  all: readonly string[] = [];
  #pattern: RegExp | undefined;

  add(forms: readonly string[], shown: string): void {
    for (const form of forms) if (!this.#shown.has(form)) this.#shown.set(form, shown);
    this.all = [...this.#shown.keys()].sort((a, b) => b.length - a.length);
    this.#pattern =
      this.all.length === 0
        ? undefined
        : new RegExp(this.all.map((form) => form.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&')).join('|'), 'g');
  }

  shown(form: string): string {
    return this.#shown.get(form) ?? '[secret]';
  }

  /** The stretches of the text to be taken out, from left to right; those that overlap are one. `first` is one already known. */
  stretches(text: string, first?: Stretch): Stretch[] {
    const found: Stretch[] = first ? [first] : [];
    if (!this.#pattern) return found;
    this.#pattern.lastIndex = 0;
    for (let match = this.#pattern.exec(text); match; match = this.#pattern.exec(text)) {
      const { index: start, 0: form } = match;
      // Another secret may begin within this one.
      this.#pattern.lastIndex = start + 1;
      const last = found.at(-1);
      if (last && start < last.end) last.end = Math.max(last.end, start + form.length);
      else found.push({ start, end: start + form.length, shown: this.shown(form) });
    }
    return found;
  }

  /** The longest end of the text, of at least `least` characters, that is the beginning of a form; and the same the other way. */
  beginningAtEndOf(text: string, least: number): { length: number; form: string } | undefined {
    return longest(
      this.all,
      least,
      text.length,
      (form, length) =>
        text.charCodeAt(text.length - 1) === form.charCodeAt(length - 1) && text.endsWith(form.slice(0, length)),
    );
  }
  endAtBeginningOf(text: string, least: number): { length: number; form: string } | undefined {
    return longest(
      this.all,
      least,
      text.length,
      (form, length) =>
        text.charCodeAt(0) === form.charCodeAt(form.length - length) &&
        text.startsWith(form.slice(form.length - length)),
    );
  }
}

interface Stretch {
  start: number;
  end: number;
  shown: string;
}

function longest(
  forms: readonly string[],
  least: number,
  most: number,
  fits: (form: string, length: number) => boolean,
) {
  let best: { length: number; form: string } | undefined;
  for (const form of forms) {
    for (let length = Math.min(form.length - 1, most); length >= Math.max(least, (best?.length ?? 0) + 1); length--) {
      if (fits(form, length)) best = { length, form };
    }
  }
  return best;
}

function withoutPieces(text: string, needles: Needles): string {
  const found = needles.stretches(text);
  const tail = needles.beginningAtEndOf(text, SHORTEST_PIECE);
  const head = needles.endAtBeginningOf(text, SHORTEST_PIECE);
  if (head) found.push({ start: 0, end: head.length, shown: needles.shown(head.form) });
  if (tail) found.push({ start: text.length - tail.length, end: text.length, shown: needles.shown(tail.form) });
  found.sort((a, b) => a.start - b.start);
  let result = '';
  let at = 0;
  for (const { start, end, shown } of found) {
    if (start >= at) result += text.slice(at, start) + shown;
    at = Math.max(at, end);
  }
  return result + text.slice(at);
}

function scrubStream(needles: Needles): ScrubStream<string> {
  let held = '';
  /** How much of what is held belongs to a stretch that has been shown already. */
  let covered = 0;
  const advance = (chunk: string, last: boolean): string => {
    const text = held + chunk;
    const found = needles.stretches(text, covered > 0 ? { start: 0, end: covered, shown: '' } : undefined);
    const piece = needles.beginningAtEndOf(text, last ? SHORTEST_PIECE : 1);
    let until = text.length;
    if (last && piece) {
      found.push({ start: text.length - piece.length, end: text.length, shown: needles.shown(piece.form) });
      found.sort((a, b) => a.start - b.start);
    } else if (piece) until = text.length - piece.length;
    let result = '';
    let at = 0;
    for (const { start, end, shown } of found) {
      if (start >= until) break;
      if (start >= at) result += text.slice(at, start) + shown;
      at = Math.max(at, end);
    }
    if (at < until) result += text.slice(at, until);
    held = text.slice(until);
    covered = Math.max(0, at - until);
    return result;
  };
  return { push: (chunk) => advance(chunk, false), end: () => advance('', true) };
}
