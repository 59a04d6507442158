import { describe, expect, test } from '@jest/globals';
import fc from 'fast-check';
import { readFileSync } from 'node:fs';
import { maskText, maskUnknown } from '../../../activities/files/mask.js';

const mark = (value: string) => `<${value.length}>`;

describe('masking', () => {
  test.each([
    ['Environment=DB_PASSWORD=hunter2 A=1', 'Environment=DB_PASSWORD=<7> A=1'],
    ['url: postgresql://u:s3cret@h:5/d', 'url: postgresql://u:<6>@h:5/d'],
    ['ssl_certificate_key /etc/x/privkey.pem;', 'ssl_certificate_key /etc/x/privkey.pem;'],
    ['PASSWORD=${PASSWORD}', 'PASSWORD=${PASSWORD}'],
    ['access_token: "a b"', 'access_token: <5>'],
    ['Environment=ENCRYPTION_KEY=0123 SMTP_PASS=x', 'Environment=ENCRYPTION_KEY=<4> SMTP_PASS=<1>'],
    ['Environment="DB_PASS=a b" A=1', 'Environment="DB_PASS=<3>" A=1'],
    ['      GF_SMTP_PASS: two words', '      GF_SMTP_PASS: <9>'],
    ['ExecStart=/usr/bin/x --token abc --port 80', 'ExecStart=/usr/bin/x --token <3> --port 80'],
    ['proxy_set_header X-Api-Key abc;', 'proxy_set_header X-Api-Key <4>'],
    ['proxy_set_header Authorization "Basic abc=";', 'proxy_set_header Authorization <12>;'],
    ['curl -H "Authorization: Bearer a.b" x', 'curl -H "Authorization: <10>" x'],
    ['PASSWORD=$Hunter2', 'PASSWORD=<8>'],
    ['PASSWORD=/x8kPq2', 'PASSWORD=<7>'],
    ['PASSWORD=${PASSWORD:-hunter2}', 'PASSWORD=<20>'],
    ['PASSWORD_FILE=/run/secrets/x', 'PASSWORD_FILE=/run/secrets/x'],
    ['PASSWORD="first line', 'PASSWORD=<11>'],
    ['proxy_pass http://127.0.0.1:4000;', 'proxy_pass http://127.0.0.1:4000;'],
    ['proxy_cache_bypass $http_upgrade;', 'proxy_cache_bypass $http_upgrade;'],
    ['requirepass abc', 'requirepass <3>'],
    ['host proofpass_prod proofpass ::1/128 scram', 'host proofpass_prod proofpass ::1/128 scram'],
    ['proofpass: on, compass=4', 'proofpass: on, compass=4'],
    ['PermitEmptyPasswords no', 'PermitEmptyPasswords no'],
    ["password_encryption = 'scram-sha-256'", "password_encryption = 'scram-sha-256'"],
    ['limit_req zone=api burst=20;', 'limit_req zone=api burst=20;'],
    ['url: http://admin:pa/s@s@h/x', 'url: http://admin:<6>@h/x'],
    ['; DB_PASSWORD tiger', '; DB_PASSWORD <5>'],
    ['# x --password tiger', '# x --password <5>'],
    ['"--pin=12345"', '"--pin=<6>'],
    ['PINNED: yes, ping: 1', 'PINNED: yes, ping: 1'],
    ['["redis-server", "--requirepass", "default"]', '["redis-server", "--requirepass", <9>]'],
    ['- --requirepass\n- default\n- --port\n- 80', '- --requirepass\n- <7>\n- --port\n- 80'],
    ['  PASSWORD: >-\n    a=b\n\n    c\n  PORT: 80', '  PASSWORD: <2>\n    <3>\n\n    <1>\n  PORT: 80'],
    ['ExecStart=/x --token \\\n  default\nB=1', 'ExecStart=/x --token <1>\n  <7>\nB=1'],
    ['-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\nx', '<58>\nx'],
  ])('of any other file hides what is secret by form or name: %s', (text, shown) => {
    expect(maskText(text, [], mark)).toBe(shown);
  });

  test('leaves a line as it is that is known, whatever its name', () => {
    const text = 'host service_auth app_auth ::1/128 scram\nhost db service_auth ::1/128 scram\n';
    expect(maskText(text, [text], mark)).toBe(text);
    expect(maskText(text, [], mark)).not.toBe(text);
  });

  describe('of what is to be read beside what is wanted', () => {
    const known = ['units/proofpass-api.service', 'nginx/site.conf', 'observability/docker-compose.template'].map(
      (name) => readFileSync(`infra/systems/proofpass/${name}`, 'utf8'),
    );

    test.each(known)('leaves what is wanted as it is, and what is plain', (text) => {
      const more = [
        'ExecStart=/usr/bin/node --enable-source-maps /srv/app/main.js',
        '    client_max_body_size 50m;',
        '    listen [::]:443 ssl http2;',
        'After=redis-server.service',
        '[sshd]',
        'maxretry = 3',
        '# ======',
        '',
      ].join('\n');
      expect(maskUnknown(text, [text], mark)).toBe(text);
      expect(maskUnknown(more + text, [text], mark)).toBe(more + text);
    });

    test.each([
      (secret: string) => `Environment=WHATEVER=${secret}`,
      (secret: string) => `Environment="A=1" "ENCRYPTION_KEY=${secret}"`,
      (secret: string) => `ExecStart=/usr/bin/curl -u admin:${secret} https://hooks.example/services/${secret}`,
      (secret: string) => `ExecStart=/usr/bin/mysql -p${secret} \\\n  ${secret}`,
      (secret: string) => `      SMTP: ${secret}`,
      (secret: string) => `      - GF_SMTP_PASS=${secret}`,
      (secret: string) => `    command: ["--key", "${secret}"]`,
      (secret: string) => `    proxy_set_header X-Customer ${secret};`,
      (secret: string) => `    proxy_set_header Authorization "Basic ${secret}=";`,
      (secret: string) => `    server postgresql://user:${secret}@db/x;`,
      (secret: string) => `# before: ${secret}`,
      (secret: string) => `#    proxy_set_header Authorization ${secret};`,
      (secret: string) => `Environment="FERNET_SALT=${secret}"`,
      (secret: string) => `      - "JWT=${secret}"`,
      (secret: string) => `      SALT: "${secret}"`,
      (secret: string) => `      HOOK: '${secret}'`,
      (secret: string) => `    command: ["--salt=${secret}"]`,
      (secret: string) => `    command: ["--hook=${secret}", '${secret}']`,
      (secret: string) => `    proxy_set_header X-Customer "${secret}";`,
      (secret: string) => `    if ($http_authorization != "Basic ${secret}") { return 403; }`,
      (secret: string) => `      JWT_SECRET: >-\n        ${secret}`,
      (secret: string) => `      JWT_SECRET:\n        ${secret}\n      HOOK:\n        ${secret}`,
      (secret: string) => `    proxy_set_header Authorization\n        "Basic ${secret}";`,
      (secret: string) => `map $http_apikey $client {\n    "${secret}" "client";\n    ${secret} 1;\n}`,
      (secret: string) => `map $http_apikey $client { "${secret}" "client"; ${secret} 1; }`,
      (secret: string) => `-----BEGIN PRIVATE KEY-----\n${secret}\n-----END PRIVATE KEY-----`,
    ])('lets no secret through that stands there: %#', (line) => {
      const secret = fc
        .stringMatching(/^[A-Za-z0-9$/+][A-Za-z0-9_+.-]{7,30}$/)
        .filter((one) => /\d/.test(one) && /[A-Z]/.test(one) && !/^\d+[a-z]*$/i.test(one));
      fc.assert(
        fc.property(secret, fc.constantFrom('', '=', '=='), (value, padding) => {
          expect(maskUnknown(`a = b\n${line(value + padding)}\n`, known, mark)).not.toContain(value);
        }),
      );
    });

    test('masks a name of secrets whatever its value, and shows the name', () => {
      expect(maskUnknown('Environment=DB_PASS=production', known, mark)).toBe('Environment=DB_PASS=<10>');
      expect(maskUnknown('  proxy_set_header X-Api-Key always;', known, mark)).toBe('  proxy_set_header X-Api-Key <7>');
    });

    test.each([
      ['ExecStart=/usr/bin/curl -u admin:AdminPassword https://x', 'ExecStart=/usr/bin/curl -u admin:<13> <9>'],
      ['ExecStart=/usr/bin/redis-cli -a MySecret ping', 'ExecStart=/usr/bin/redis-cli -a <8> <4>'],
      ['#    proxy_set_header Authorization Zauberwort;', '#    <42>'],
      ['; DB_PASSWORD tiger', '; <17>'],
      ['# -p tiger --password tiger', '# <25>'],
      ['      - --requirepass\n      - tiger.lily.com', '      - --requirepass\n      - <14>'],
      ['    command: ["redis-server", "--requirepass", "default"]', '    command: ["<12>", "--requirepass", <9>]'],
      ['      POSTGRES_PASSWORD:\n        tiger.woods.com', '      POSTGRES_PASSWORD:\n        <15>'],
      ['    command: ["--pin=12345"]', '    command: ["--pin=<5>"]'],
      ['      POSTGRES_PASSWORD:\r\n        default\r', '      POSTGRES_PASSWORD:\r\n        <7>\r'],
      ['# tiger\u2028lily\r', '# <11>'],
      ['x -p CCKRL7MRS4LDX4DSN5ZFJK5==', 'x -p <23>=='],
      ['    "RvUQNF=ME" 1;', '    "<6>=<2>" 1;'],
      ['[IWlkTEhPQSsmczpx]', '[<16>]'],
      ['      pepper: mango-tree/lemon-pie', '      pepper: <20>'],
      ['      taste: mango-tree/lemon.pie', '      taste: <20>'],
      ['      curl -H "Authorization: Basic default"', '      <4> -H "Authorization: <13>"'],
    ])('shows no word that may be a secret: %s', (text, shown) => {
      expect(maskUnknown(text, known, mark)).toBe(shown);
    });
  });
});
