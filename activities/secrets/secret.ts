import { inspect } from 'node:util';

/**
 * The value of a secret while it is in use. It shows itself as `[secret NAME]` in text, logs and errors and refuses to become
 * JSON: activities hand on its reference. `reveal()` is the only way to the value; keep what it returns in a local variable.
 */
export class Secret {
  readonly #value: string;
  /** Its reference, such as `file:s3/secret`: what may be shown. */
  readonly #name: string;

  constructor(name: string, value: string) {
    this.#name = name;
    this.#value = value;
    Object.freeze(this);
  }

  get name(): string {
    return this.#name;
  }

  reveal(): string {
    return this.#value;
  }

  toString(): string {
    return `[secret ${this.#name}]`;
  }

  [Symbol.toPrimitive](): string {
    return this.toString();
  }

  [inspect.custom](): string {
    return this.toString();
  }

  /** Throws TypeError: text in place of a secret would be stored or sent as if it were one. */
  toJSON(): never {
    throw new TypeError(
      `secret ${this.#name} cannot become JSON: hand on its reference, and resolve it where it is used`,
    );
  }
}
