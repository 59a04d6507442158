/** What an object of a record says, or undefined where it is no JSON: somebody else has put it there. Pure. */
export function jsonOf(content: Buffer): unknown {
  try {
    return JSON.parse(content.toString('utf8'));
  } catch {
    return undefined;
  }
}
