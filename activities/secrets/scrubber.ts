import type { Secret } from './secret.js';
import { secretForms, SHORTEST_FORM } from './secret-forms.js';

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

interface Stretch {
  start: number;
  end: number;
  shown: string;
}

interface Piece {
  length: number;
  shown: string;
}

/** Forms by the four characters that they begin or end with, with a filter that rules out most places without a look-up. */
class FourCharacters {
  readonly #filter = new Uint8Array(1 << 16);
  readonly #forms = new Map<string, string[]>();

  add(four: string, form: string): void {
    this.#filter[mix(four.charCodeAt(0), four.charCodeAt(1), four.charCodeAt(2), four.charCodeAt(3))] = 1;
    const forms = this.#forms.get(four);
    if (!forms) this.#forms.set(four, [form]);
    else forms.push(form);
  }

  may(a: number, b: number, c: number, d: number): boolean {
    return this.#filter[mix(a, b, c, d)] === 1;
  }

  at(text: string, start: number): readonly string[] {
    const four = [
      text.charCodeAt(start),
      text.charCodeAt(start + 1),
      text.charCodeAt(start + 2),
      text.charCodeAt(start + 3),
    ] as const;
    return this.may(...four) ? (this.#forms.get(text.slice(start, start + SHORTEST_FORM)) ?? []) : [];
  }
}

const { imul } = Math;
const mix = (a: number, b: number, c: number, d: number) =>
  (imul((a << 24) ^ (b << 16) ^ (c << 8) ^ d, 0x9e3779b1) >>> 16) & 0xffff;

/** What is searched for, and what is shown instead of it. */
class Needles {
  readonly #shown = new Map<string, string>();
  readonly #byBeginning = new FourCharacters();
  readonly #byEnd = new FourCharacters();
  /** Beginnings of one to three characters. */
  readonly #short = new Set<string>();
  #longest = 0;

  add(forms: readonly string[], shown: string): void {
    for (const form of forms) {
      if (this.#shown.has(form)) continue;
      this.#shown.set(form, shown);
      this.#byBeginning.add(form.slice(0, SHORTEST_FORM), form);
      this.#byEnd.add(form.slice(-SHORTEST_FORM), form);
      for (let length = 1; length < SHORTEST_FORM; length++) this.#short.add(form.slice(0, length));
      this.#longest = Math.max(this.#longest, form.length);
    }
  }

  /** The stretches of the text to be taken out, from left to right; those that overlap are one. `first` is one already known. */
  stretches(text: string, first?: Stretch): Stretch[] {
    const found: Stretch[] = first ? [first] : [];
    if (this.#longest === 0) return found;
    const filter = this.#byBeginning;
    let [a, b, c] = [text.charCodeAt(0), text.charCodeAt(1), text.charCodeAt(2)];
    for (let start = 0; start + SHORTEST_FORM <= text.length; start++) {
      const d = text.charCodeAt(start + 3);
      if (filter.may(a, b, c, d)) {
        let form = '';
        for (const one of filter.at(text, start))
          if (one.length > form.length && text.startsWith(one, start)) form = one;
        const last = found.at(-1);
        if (form !== '' && last && start < last.end) last.end = Math.max(last.end, start + form.length);
        else if (form !== '') found.push({ start, end: start + form.length, shown: this.#shown.get(form) ?? '' });
      }
      [a, b, c] = [b, c, d];
    }
    return found;
  }

  /** The longest end of the text, of at least `least` characters, that is the beginning of a form. */
  beginningAtEndOf(text: string, least: number): Piece | undefined {
    for (let start = Math.max(0, text.length - this.#longest + 1); start <= text.length - least; start++) {
      const piece = text.slice(start);
      if (piece.length < SHORTEST_FORM) {
        if (this.#short.has(piece)) return { length: piece.length, shown: '' };
        continue;
      }
      const form = this.#byBeginning.at(text, start).find((one) => one.length > piece.length && one.startsWith(piece));
      if (form !== undefined) return { length: piece.length, shown: this.#shown.get(form) ?? '' };
    }
    return undefined;
  }

  /** The longest beginning of the text, of at least `least` characters, that is the end of a form. */
  endAtBeginningOf(text: string, least: number): Piece | undefined {
    for (let length = Math.min(text.length, this.#longest - 1); length >= least; length--) {
      const forms = this.#byEnd.at(text, length - SHORTEST_FORM);
      const form = forms.find((one) => one.length > length && one.endsWith(text.slice(0, length)));
      if (form !== undefined) return { length, shown: this.#shown.get(form) ?? '' };
    }
    return undefined;
  }
}

function withoutPieces(text: string, needles: Needles): string {
  const found = needles.stretches(text);
  const tail = needles.beginningAtEndOf(text, SHORTEST_PIECE);
  const head = needles.endAtBeginningOf(text, SHORTEST_PIECE);
  if (head) found.push({ start: 0, end: head.length, shown: head.shown });
  if (tail) found.push({ start: text.length - tail.length, end: text.length, shown: tail.shown });
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
      found.push({ start: text.length - piece.length, end: text.length, shown: piece.shown });
      found.sort((a, b) => a.start - b.start);
    } else if (piece) until = text.length - piece.length;
    let result = '';
    // What has been shown already and what goes on from it.
    let at = covered > 0 ? (found.shift()?.end ?? 0) : 0;
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
