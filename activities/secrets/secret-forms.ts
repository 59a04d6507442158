/** A shorter value cannot be told from ordinary text and is not searched for. Characters. */
export const SHORTEST_FORM = 4;
/** A line of a value of several lines is searched for by itself from this length on. Characters. */
const SHORTEST_LINE = 8;

/**
 * The ways in which a secret may appear in text: as it is, each longer line of it, trimmed, in base64 and base64url (at any
 * offset, so also inside `user:password`), hex, percent-encoded, quoted by shells, escaped in JSON and XML.
 */
export function secretForms(value: string): string[] {
  const forms = new Set([value, value.trim()]);
  const lines = value.split(/\r?\n/).map((line) => line.trim());
  // The first and last line of a PEM key are in every other key, too.
  if (lines.length > 1)
    for (const line of lines) if (line.length >= SHORTEST_LINE && !line.startsWith('-----')) forms.add(line);

  const bytes = Buffer.from(value, 'utf8');
  for (const offset of [0, 1, 2]) {
    // Characters that also hold bits of what stands before or after the value are cut off.
    const encoded = Buffer.concat([Buffer.alloc(offset), bytes])
      .toString('base64')
      .replace(/=+$/, '');
    const inner = encoded.slice(Math.ceil((offset * 8) / 6), Math.floor(((offset + bytes.length) * 8) / 6));
    forms.add(inner).add(inner.replaceAll('+', '-').replaceAll('/', '_'));
  }
  const hex = bytes.toString('hex');
  forms.add(hex).add(hex.toUpperCase());

  const percent = encodeURIComponent(value.replace(/\p{Surrogate}/gu, '\ufffd'));
  const strict = percent.replace(/[!'()*]/g, (character) => `%${character.charCodeAt(0).toString(16).toUpperCase()}`);
  for (const form of [percent, strict])
    for (const spaced of [form, form.replaceAll('%20', '+')])
      forms.add(spaced).add(spaced.replace(/%[0-9A-F]{2}/g, (byte) => byte.toLowerCase()));

  forms.add(value.replaceAll("'", `'\\''`)).add(value.replaceAll("'", `'"'"'`));
  forms.add(
    value.replace(/[\\'\n\t\r]/g, (character) => `\\${{ '\n': 'n', '\t': 't', '\r': 'r' }[character] ?? character}`),
  );
  forms.add(value.replace(/[\\"$`]/g, '\\$&')).add(value.replace(/[^A-Za-z0-9_@%+=:,./\n-]/g, '\\$&'));
  forms.add(JSON.stringify(value).slice(1, -1));
  const xml = value.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
  forms.add(xml).add(xml.replaceAll("'", '&#39;')).add(xml.replaceAll("'", '&apos;'));
  return [...forms].filter((form) => form.length >= SHORTEST_FORM);
}
