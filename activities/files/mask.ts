/** How a value is shown in place of itself: the same value has the same mark, so that a diff tells which ones differ. */
export type Mark = (value: string) => string;

const PAIR = /^(\s*(?:[#;]\s*)?(?:export\s+|-\s+)?["']?[A-Za-z_][\w.-]*["']?\s*[=:]\s*)(.*?)(\s*)$/;
const PLAIN_COMMENT = /^\s*[#;](?:[^=:0-9]*|[\s=-]*)$/;
const SECTION_HEAD = /^\s*\[[\w .-]+\]\s*$/;

/** Words in a name that say that its value is secret. */
const WORD =
  '(?:PASSWORD|PASSWD|PASSPHRASE|(?:(?<![A-Z0-9])|DB|USER|ROOT|ADMIN|SMTP|MAIL|SSH|MYSQL|REDIS|REQUIRE)PASS(?![A-Z])|PWD(?![A-Z])|SECRET|TOKEN|CREDENTIALS?|(?:[_.-]|API|PRIVATE|ACCESS|ENCRYPTION|SIGNING|MASTER)KEY(?![\\w-])|DSN(?![A-Z])|AUTHORIZATION(?![A-Z])|[_.-]AUTH(?!\\w))';
/** Names that such a word is a part of, and that hold nothing. */
const HARMLESS_NAME =
  /(?:(?:proxy|fastcgi|uwsgi|scgi|grpc|memcached)_pass(?:_\w+)?|cache_key|_encryption|authentication)$/i;
const VALUE = `(?:\\uE000\\d+\\uE001|(?:Basic|Bearer|Digest|Token)\\s+\\S+|"(?:[^"\\\\\\n]|\\\\.)*"?|'[^'\\n]*'?|\\S+)`;
/** `NAME=VALUE` and `NAME: VALUE` of a line of its own, which may have spaces in it; `"NAME=VALUE"`; either of them within a line; `NAME VALUE`. */
const NAMED_LINE = new RegExp(
  `^(\\s*(?:[#;]\\s*)?(?:export\\s+|-\\s+)?["']?([\\w.-]*${WORD}\\w*)["']?\\s*[=:]\\s*)(\\S.*?)(\\s*)$`,
  'i',
);
const NAMED_IN_QUOTES = new RegExp(`((["'])([\\w.-]*${WORD}\\w*)\\s*[=:]\\s*)((?:(?!\\2)[^\\n])+)`, 'gi');
const NAMED_BY_SIGN = new RegExp(`((?<![\\w.-])([\\w.-]*${WORD}\\w*)["']?\\s*[=:]\\s*)(${VALUE})`, 'gi');
const NAMED_BY_SPACE = new RegExp(`((?<![\\w.-])([\\w.-]*${WORD})\\s+)(${VALUE})`, 'gi');
const URL_PASSWORD = /([a-z][a-z0-9+.-]*:\/\/[^\s:/@]*:)([^\s/]+)(@)/gi;
const KEY_BLOCK = /-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|$)/g;

/** What stands for a mark until all are found: none is masked again. Characters that no configuration has. */
const HELD = /\uE000(\d+)\uE001/g;

/** Whether a value says where a secret is, and does not hold it: a variable, a place in a template, a file where the name says so. */
function isReference(name: string, value: string): boolean {
  const bare = /^(["']?)(.*?)\1[;,]?$/.exec(value)?.[2] ?? value;
  return (
    bare === '' ||
    /^\$\{\w+\}$|^\{\{[^{}]*\}\}$|^\uE000\d+\uE001$/.test(bare) ||
    (/(?:_file|_path|certificate_key|hostkey)$/i.test(name) && /^\.{0,2}\/[\w./@%+-]*$/.test(bare))
  );
}

/** Whether the value of this name is secret, so far as the name tells. Pure. */
export const namesSecret = (name: string): boolean => new RegExp(WORD, 'i').test(name) && !HARMLESS_NAME.test(name);

/** Takes out of a text what is secret by its form or its name, so that the rest can be looked at; `back` puts the marks there. */
function holding(mark: Mark) {
  const marks: string[] = [];
  const hold = (value: string): string => `\uE000${marks.push(mark(value)) - 1}\uE001`;
  const named = (name: string, value: string): string =>
    HARMLESS_NAME.test(name) || isReference(name, value) ? value : hold(value);
  const line = (text: string): string => {
    const whole = NAMED_LINE.exec(text);
    if (whole && !HARMLESS_NAME.test(whole[2] ?? ''))
      return `${whole[1]}${named(whole[2] ?? '', whole[3] ?? '')}${whole[4]}`;
    const found = text
      .replaceAll(NAMED_IN_QUOTES, (_, before: string, __, name: string, value: string) => before + named(name, value))
      .replaceAll(NAMED_BY_SIGN, (_, before: string, name: string, value: string) => before + named(name, value));
    return /^\s*[#;]/.test(found)
      ? found
      : found.replaceAll(
          NAMED_BY_SPACE,
          (_, before: string, name: string, value: string) => before + named(name, value),
        );
  };
  return {
    hold,
    take: (text: string): string =>
      text
        .replaceAll(KEY_BLOCK, (block) => hold(block))
        .replaceAll(URL_PASSWORD, (_, before: string, value: string, after: string) =>
          /^\$\{\w+\}$|^\{\{[^{}]*\}\}$/.test(value) ? `${before}${value}${after}` : `${before}${hold(value)}${after}`,
        )
        .split('\n')
        .map(line)
        .join('\n'),
    back: (text: string): string => text.replaceAll(HELD, (_, n: string) => marks[Number(n)] ?? ''),
  };
}

/**
 * Masks a text for people. `everything`: the file may hold secrets, so only names, section heads and comments without digits stay;
 * otherwise what is secret by its form or its name. Pure.
 */
export function maskText(text: string, everything: boolean, mark: Mark): string {
  if (everything) {
    return text
      .split('\n')
      .map((line) => {
        if (/^\s*$/.test(line) || PLAIN_COMMENT.test(line) || SECTION_HEAD.test(line)) return line;
        const pair = PAIR.exec(line);
        if (!pair) return mark(line);
        const [, name = '', value = ''] = pair;
        return value === '' ? name : `${name}${mark(value)}`;
      })
      .join('\n');
  }
  const { take, back } = holding(mark);
  return back(take(text));
}

/** A variable, or a run of characters that a configuration does not divide further. */
const TOKEN = /\uE000\d+\uE001|\$\{\w+\}|[^\s"'`;,(){}[\]<>|&=:\uE000\uE001]+/g;
/** Words, numbers, paths and names of hosts and units, as anybody would write them: what tells nobody anything. */
const PLAIN = [
  /^.{1,2}$/,
  /^(?:true|false|yes|no|on|off|none|null|any|all|always|never|default|latest|simple|forking|oneshot|notify|unless-stopped|on-failure)$/,
  /^(?:http|https|tcp|udp|ssl|http2|localhost|root|www-data|nobody|listen|bind|upgrade)$/,
  /^\d{1,5}[a-z%]{0,3}$/i,
  /^[0-9a-f]{1,4}$/,
  /^v?\d{1,4}(?:\.\d{1,3}){1,3}(?:\/\d{1,2})?$/,
  /^--[a-z][a-z.-]{1,40}$/,
  /^(?:\.{1,2}|\/(?:bin|boot|dev|etc|home|lib|media|mnt|opt|proc|root|run|sbin|srv|sys|tmp|usr|var))(?:\/[\w.@%+*-]{1,40})*\/?$/,
  /^(?:[a-z][a-z-]{0,30}\.)+[a-z]{2,12}$/,
  /^[a-z-]{2,20}\/[a-z-]{2,30}$/,
];

/**
 * Masks a file that may hold secrets where it is to be read beside what is wanted there: of its values those stay that the wanted texts have
 * too, and what is plain; and all that is under a name of secrets, or has their form, is masked. Pure.
 */
export function maskUnknown(text: string, known: readonly string[], mark: Mark): string {
  const lines = new Set(known.flatMap((one) => one.split('\n').map((line) => line.trim())));
  const words = new Set(known.flatMap((one) => one.match(TOKEN) ?? []));
  const { hold, take, back } = holding(mark);
  const isPlain = (token: string): boolean =>
    words.has(token) || PLAIN.some((form) => form.test(token.replace(/^\/\/([^/]+)\/?$/, '$1')));
  // A name: before a sign and its value, before a value that is masked already, or the first word of a directive.
  const isName = (token: string, line: string, at: number): boolean => {
    const [before, after] = [line.slice(0, at), line.slice(at + token.length)];
    const first = /^\s*(?:[#;]\s*)?(?:-\s+)?["']?$/.test(before);
    return (
      /^-{0,2}[A-Za-z_][\w.-]{0,60}$/.test(token) &&
      (/^=[^\s=]/.test(after) ||
        /^["']?\s*[=:]?\s*["']?\uE000/.test(after) ||
        /^:\/\//.test(after) ||
        (first && /^["']?\s*(?:=(?!=)|:(?:\s|$))/.test(after)) ||
        (first && /[;{]\s*$/.test(line)))
    );
  };
  // What the wanted texts say as well is no secret, whatever its name.
  const kept: string[] = [];
  const others = text
    .split('\n')
    .map((line) => (lines.has(line.trim()) ? (kept.push(line), `\uE002${kept.length - 1}`) : line));
  return back(
    take(others.join('\n'))
      .split('\n')
      .map((line) =>
        line.startsWith('\uE002')
          ? (kept[Number(line.slice(1))] ?? '')
          : PLAIN_COMMENT.test(line) || SECTION_HEAD.test(line)
            ? line
            : line.replaceAll(TOKEN, (token: string, at: number) =>
                token.startsWith('\uE000') || token.startsWith('${') || isPlain(token) || isName(token, line, at)
                  ? token
                  : hold(token),
              ),
      )
      .join('\n'),
  );
}
