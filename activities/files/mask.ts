/** How a value is shown in place of itself: the same value has the same mark, so that a diff tells which ones differ. */
export type Mark = (value: string) => string;

const PAIR = /^(\s*(?:#\s*)?(?:export\s+|-\s+)?["']?[A-Za-z_][\w.-]*["']?\s*[=:]\s*)(.*?)(\s*)$/;
/** Names whose values are secret wherever they stand. */
const SECRET_NAME =
  /((?:[A-Za-z0-9_.-]*(?:PASSWORD|PASSWD|PASSPHRASE|SECRET|TOKEN|CREDENTIAL|APIKEY|API_KEY|PRIVATE_KEY|ACCESS_KEY|DSN)[A-Za-z0-9_]*)["']?\s*[=:]\s*)("[^"]*"|'[^']*'|[^\s"']+)/gi;
const URL_PASSWORD = /([a-z][a-z0-9+.-]*:\/\/[^\s:/@]*:)([^\s/]+)(@)/gi;
const KEY_BLOCK = /-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|$)/g;

/**
 * Masks a text for people. `everything`: the file may hold secrets, so only names, section heads and comments without digits stay;
 * otherwise what is secret by its form or its name. Pure.
 */
export function maskText(text: string, everything: boolean, mark: Mark): string {
  if (everything) {
    return text
      .split('\n')
      .map((line) => {
        if (/^\s*$/.test(line) || /^\s*[#;](?:[^=:0-9]*|[\s=-]*)$/.test(line) || /^\s*\[[\w .-]+\]\s*$/.test(line))
          return line;
        const pair = PAIR.exec(line);
        if (!pair) return mark(line);
        const [, name = '', value = ''] = pair;
        return value === '' ? name : `${name}${mark(value)}`;
      })
      .join('\n');
  }
  return text
    .replaceAll(KEY_BLOCK, (block) => mark(block))
    .replaceAll(URL_PASSWORD, (_, before: string, value: string, after: string) => `${before}${mark(value)}${after}`)
    .replaceAll(SECRET_NAME, (whole: string, name: string, value: string) =>
      // What names a secret without holding it: a path, a placeholder, a variable.
      /^["']?(?:\/|\$|\{\{|file:|env:|\[masked)/.test(value) ? whole : `${name}${mark(value)}`,
    );
}
