/** How a value is shown in place of itself: the same value has the same mark, so that a diff tells which ones differ. */
export type Mark = (value: string) => string;

const COMMENT = /^(\s*[#;]+\s*)([^]*)$/;
const SECTION_HEAD = /^\[(?:[A-Z]+|[A-Z]?[a-z]+)(?:[ -][A-Z]?[a-z]+)*\]\s*$/;

/** Words in a name that say that its value is secret. */
const WORD =
  '(?:PASSWORD|PASSWD|PASSPHRASE|(?:(?<![A-Z0-9])|DB|USER|ROOT|ADMIN|SMTP|MAIL|SSH|MYSQL|REDIS|REQUIRE)PASS(?![A-Z])|PWD(?![A-Z])|SECRET|TOKEN|CREDENTIALS?|(?:[_.-]|API|PRIVATE|ACCESS|ENCRYPTION|SIGNING|MASTER)KEY(?![\\w-])|DSN(?![A-Z])|AUTHORIZATION(?![A-Z])|[_.-]AUTH(?!\\w)|(?<![A-Z0-9])(?:PIN|SALT|PEPPER)(?![A-Z]))';
/** Names that such a word is a part of, and that hold nothing. */
const HARMLESS_NAME =
  /(?:(?:proxy|fastcgi|uwsgi|scgi|grpc|memcached)_pass(?:_\w+)?|cache_key|_encryption|authentication)$/i;
const VALUE = `(?:\\uE000\\d+\\uE001|(?:Basic|Bearer|Digest|Token)\\s+\\S+|"(?:[^"\\\\\\n]|\\\\.)*"?|'[^'\\n]*'?|\\S+)`;
/** `NAME=VALUE` and `NAME: VALUE` of a line of its own, which may have spaces in it; `"NAME=VALUE"`; either of them within a line; `NAME VALUE`. */
const NAMED_LINE = new RegExp(
  `^(\\s*(?:[#;]\\s*)?(?:export\\s+|-\\s+)?["']?([\\w.-]*${WORD}\\w*)["']?\\s*[=:]\\s*)(\\S[^]*?)(\\s*)$`,
  'i',
);
const NAMED_IN_QUOTES = new RegExp(`((["'])([\\w.-]*${WORD}\\w*)\\s*[=:]\\s*)((?:(?!\\2)[^\\n])+)`, 'gi');
const NAMED_BY_SIGN = new RegExp(`((?<![\\w.-])([\\w.-]*${WORD}\\w*)["']?\\s*[=:]\\s*)(${VALUE})`, 'gi');
const NAMED_BY_SPACE = new RegExp(`((?<![\\w.-])([\\w.-]*${WORD})(?:["']?\\s+|["']\\s*,\\s*))(${VALUE})`, 'gi');
/** A line or list item that is nothing but such a name, or ends with such an option: its value is in the next line. */
const NAMED_NEXT = new RegExp(
  `(?:^\\s*(?:[#;]+\\s*)?(?:-\\s+)?(?:\\w+_header\\s+)?["'[]*|[\\s"'=](?=--?\\w))([\\w.-]*${WORD}\\w*)["']?\\s*(?::\\s*(?:[|>][-+\\d]*)?|,|=?\\s*\\\\)?\\s*$`,
  'i',
);
// To the last @: a password may have a slash or an @ in it.
const URL_PASSWORD = /([a-z][a-z0-9+.-]*:\/\/[^\s:/@]*:)([^\s"']+)(@)/gi;
const KEY_BLOCK = /-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|$)/g;

/** What stands for a mark until all are found: none is masked again. Characters that no configuration has. */
const HELD = /\uE000(\d+)\uE001/g;

/** Whether a value says where a secret is, and does not hold it: nothing, the padding of base64, a variable, a place in a template, a file where the name says so. */
function isReference(name: string, value: string): boolean {
  const bare = /^(["']?)(.*?)\1[;,]?$/.exec(value)?.[2] ?? value;
  return (
    /^=*$/.test(bare) ||
    /^\$\{\w+\}$|^\{\{[^{}]*\}\}$|^\uE000\d+\uE001$/.test(bare) ||
    (/(?:_file|_path|certificate_key|hostkey)$/i.test(name) && /^\.{0,2}\/[\w./@%+-]*$/.test(bare))
  );
}

/** Whether the value of this name is secret, so far as the name tells. Pure. */
export const namesSecret = (name: string): boolean => new RegExp(WORD, 'i').test(name) && !HARMLESS_NAME.test(name);

/**
 * Masks line by line: what `known` texts say as well stays, whatever its name; blocks of keys, and values in the line below a name of secrets, are
 * masked; `rest` masks the other lines. `hold` masks a value, as `\uE000N\uE001` until all is done; `take` what is secret by its form or its name.
 */
function maskLines(
  text: string,
  known: readonly string[],
  mark: Mark,
  rest: (line: string, take: Mark, hold: Mark) => string,
): string {
  const marks: string[] = [];
  const back: Mark = (held) => held.replaceAll(HELD, (_, n: string) => marks[Number(n)] ?? '');
  const hold: Mark = (value) => `\uE000${marks.push(mark(back(value))) - 1}\uE001`;
  const named = (name: string, value: string): string =>
    HARMLESS_NAME.test(name) || isReference(name, value) ? value : hold(value);
  const take = (line: string): string => {
    const found = line.replaceAll(URL_PASSWORD, (_, before: string, value: string, after: string) =>
      /^\$\{\w+\}$|^\{\{[^{}]*\}\}$/.test(value) ? `${before}${value}${after}` : `${before}${hold(value)}${after}`,
    );
    const whole = NAMED_LINE.exec(found);
    if (whole && !HARMLESS_NAME.test(whole[2] ?? ''))
      return `${whole[1]}${named(whole[2] ?? '', whole[3] ?? '')}${whole[4]}`;
    return found
      .replaceAll(NAMED_IN_QUOTES, (_, before: string, __, name: string, value: string) => before + named(name, value))
      .replaceAll(NAMED_BY_SIGN, (_, before: string, name: string, value: string) => before + named(name, value))
      .replaceAll(NAMED_BY_SPACE, (_, before: string, name: string, value: string) => before + named(name, value));
  };
  const lines = new Set(known.flatMap((one) => one.split('\n').map((line) => line.trim())));
  // The line of a name whose value comes below it: in the next line, and in what is indented deeper.
  let above: { indent: number; comment: boolean; next: boolean } | undefined;
  const masked = text
    .replaceAll(KEY_BLOCK, (block) => hold(block))
    .split('\n')
    .map((line) => {
      const indent = line.search(/\S/);
      if (indent < 0) return line;
      const comment = COMMENT.test(line);
      // Below a commented name its value is a comment too: any other line is none.
      const below = above && (above.comment ? comment && above.next : above.next || indent > above.indent);
      const name = NAMED_NEXT.exec(line)?.[1];
      if (name !== undefined && !HARMLESS_NAME.test(name) && !below) above = { indent, comment, next: true };
      else if (below && above && !above.comment) above.next = false;
      else above = undefined;
      if (lines.has(line.trim())) return line;
      if (below)
        return line.replace(/^(\s*(?:-\s+)?)([^]*?)(\s*)$/, (_, a: string, b: string, c: string) => a + hold(b) + c);
      return rest(line, take, hold);
    })
    .join('\n');
  return back(masked);
}

/** Masks in a text for people what is secret by its form or its name; lines that `known` texts have stay as they are. Pure. */
export function maskText(text: string, known: readonly string[], mark: Mark): string {
  return maskLines(text, known, mark, (line, take) => take(line));
}

/** A variable, or a run of characters that a configuration does not divide further. */
const TOKEN = /\uE000\d+\uE001|\$\{\w+\}|[^\s"'`;,(){}[\]<>|&=:\uE000\uE001]+/g;
/** A name, and nothing that was made at random: letters of both cases only in a directive of systemd. */
const NAME = /^-{0,2}(?:[A-Z][A-Z0-9_]{0,40}|[a-z][a-z_.-]{0,40}|[A-Z][a-z.-]{0,30})$/;
const DIRECTIVE = /^[A-Z][A-Za-z]{1,30}$/;
/** Words, numbers, paths and names of units, as anybody would write them: what tells nobody anything. */
const PLAIN = [
  /^(?:-[A-Za-z]|[a-z]{1,2}|\W{1,2})$/,
  /^(?:true|false|yes|no|on|off|none|null|any|all|always|never|default|latest|simple|forking|oneshot|notify|unless-stopped|on-failure)$/,
  /^(?:http|https|tcp|udp|ssl|http2|localhost|root|www-data|nobody|listen|bind|upgrade|allow|deny|alias|index|include|map|rewrite|set|export)$/,
  /^\d{1,5}(?:%|[kmgt]?i?b?|[smhdwy]|ms|us|min|sec)$/i,
  /^[0-9a-f]{1,4}$/,
  /^v?\d{1,4}(?:\.\d{1,3}){1,3}(?:\/\d{1,2})?$/,
  /^--[a-z][a-z.-]{1,40}$/,
  /^(?:\.{1,2}|\/(?:bin|boot|dev|etc|home|lib|media|mnt|opt|proc|root|run|sbin|srv|sys|tmp|usr|var))(?:\/[\w.@%+*-]{1,40})*\/?$/,
  /^[a-z][a-z-]{1,30}\.(?:mount|path|service|slice|socket|target|timer)$/,
];

/** Whether a token of a line is a name: before a sign and its value, a key of YAML, a directive, a header or an option before what is masked. */
function isName(token: string, line: string, at: number): boolean {
  const [before, after] = [line.slice(0, at), line.slice(at + token.length)];
  const first = /^\s*(?:-\s+)?["']?$/.test(before);
  if (/^:\/\//.test(after)) return /^[a-z][a-z+]{1,14}$/.test(token);
  // A value has to follow: a sign behind it may be the padding of base64.
  if (/^=["']?[^\s"'`;,(){}[\]<>|&=:]/.test(after) || (first && /^\s+=\s*[^\s=]/.test(after)))
    return before === ''
      ? NAME.test(token) || DIRECTIVE.test(token)
      : NAME.test(token) && /(?:[\s"']|^Environment=)$/.test(before);
  if (first && /^["']?:(?:\s|$)/.test(after)) return NAME.test(token);
  if (/^["']?(?::?\s*|,\s*)["']?\uE000/.test(after))
    return /(?:_header|-H|--header)[\s=]+["']?$/.test(before) && /^[A-Z]+[a-z]*(?:-[A-Z]+[a-z]*)*$/i.test(token);
  // A key of nginx's `map` stands there as well: only what has the form of a directive.
  return /^\s*$/.test(before) && /[;{]\s*$/.test(line) && /^[a-z]+(?:_[a-z]+)+$/.test(token);
}

/**
 * Masks a file that may hold secrets where it is to be read beside what is wanted there: of its values those stay that the wanted texts have
 * too, and what is plain; all that is under a name of secrets, or has their form, is masked, and every comment that is not wanted. Pure.
 */
export function maskUnknown(text: string, known: readonly string[], mark: Mark): string {
  const words = new Set(known.flatMap((one) => one.match(TOKEN) ?? []));
  const isPlain = (token: string): boolean =>
    words.has(token) || PLAIN.some((form) => form.test(token.replace(/^\/\/([^/]+)\/?$/, '$1')));
  return maskLines(text, known, mark, (line, take, hold) => {
    if (SECTION_HEAD.test(line)) return line;
    const [, sign, said = ''] = COMMENT.exec(line) ?? [];
    if (sign !== undefined) return /[\p{L}\p{N}]/u.test(said) ? sign + hold(said) : line;
    const taken = take(line);
    return taken.replaceAll(TOKEN, (token: string, at: number) =>
      token.startsWith('\uE000') || token.startsWith('${') || isPlain(token) || isName(token, taken, at)
        ? token
        : hold(token),
    );
  });
}
