/** A part of an upload, as the store lists it. */
export interface SeenPart {
  key: string;
  uploadId: string;
  number: number;
  bytes: number;
  /** Changes when the part is sent again, also when its content is the same. */
  storedAt: number;
}

/** Keeps book of the parts that were seen in the store: a part that changes, or comes under another upload, was sent again. */
export function createPartsLedger(): {
  /** Returns how many bytes lie in the parts that are seen now. */
  note(seen: readonly SeenPart[]): number;
  again(): { count: number; bytes: number };
} {
  const known = new Map<string, SeenPart>();
  const again = { count: 0, bytes: 0 };
  return {
    note(seen) {
      for (const part of seen) {
        const name = `${part.key}#${part.number}`;
        const earlier = known.get(name);
        if (earlier && (earlier.uploadId !== part.uploadId || earlier.storedAt !== part.storedAt)) {
          again.count += 1;
          again.bytes += part.bytes;
        }
        known.set(name, part);
      }
      return seen.reduce((sum, { bytes }) => sum + bytes, 0);
    },
    again: () => ({ ...again }),
  };
}
