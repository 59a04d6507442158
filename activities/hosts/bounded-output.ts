/** Keeps the last `limit` bytes of a stream in memory, however much passes through. */
export class Tail {
  readonly #limit: number;
  #chunks: Buffer[] = [];
  #kept = 0;
  /** Bytes seen in all. */
  total = 0;

  constructor(limit: number) {
    this.#limit = limit;
  }

  push(chunk: Buffer): void {
    this.total += chunk.length;
    // A copy: keeping a slice of a pooled buffer would keep the whole buffer alive.
    const piece = Buffer.from(chunk.length > this.#limit ? chunk.subarray(chunk.length - this.#limit) : chunk);
    this.#chunks.push(piece);
    this.#kept += piece.length;
    while (this.#chunks.length > 1 && this.#kept - (this.#chunks[0]?.length ?? 0) >= this.#limit) {
      this.#kept -= this.#chunks.shift()?.length ?? 0;
    }
  }

  bytes(): Buffer {
    const all = Buffer.concat(this.#chunks);
    return all.length > this.#limit ? all.subarray(all.length - this.#limit) : all;
  }

  /** The tail as text; says how much is missing before it. */
  text(): string {
    const bytes = this.bytes();
    const text = bytes.toString('utf8').replace(/^�+/, '');
    return bytes.length < this.total ? `[${this.total - bytes.length} bytes before this]\n${text}` : text;
  }
}

/** Calls `onLine` for every complete line; a line longer than `limit` bytes is cut, so that memory stays bounded. */
export class Lines {
  readonly #limit: number;
  readonly #onLine: (line: string) => void;
  #parts: Buffer[] = [];
  #length = 0;

  constructor(limit: number, onLine: (line: string) => void) {
    this.#limit = limit;
    this.#onLine = onLine;
  }

  push(chunk: Buffer): void {
    let rest = chunk;
    for (let end = rest.indexOf(10); end >= 0; end = rest.indexOf(10)) {
      this.#keep(rest.subarray(0, end));
      this.#onLine(Buffer.concat(this.#parts).toString('utf8'));
      this.#parts = [];
      this.#length = 0;
      rest = rest.subarray(end + 1);
    }
    this.#keep(rest);
  }

  #keep(piece: Buffer): void {
    const room = this.#limit - this.#length;
    if (room <= 0 || piece.length === 0) return;
    const kept = Buffer.from(piece.subarray(0, room));
    this.#parts.push(kept);
    this.#length += kept.length;
  }
}
