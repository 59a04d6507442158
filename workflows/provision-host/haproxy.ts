import { hostsOf } from '../contracts/host-groups.js';
import type { Endpoint, System } from '../contracts/system.js';
import { given } from '../contracts/unset.js';

/** What is behind the balancer: a service that an endpoint names, with the port that the balancer's flow opens. */
interface BackEnd {
  name: string;
  hostname: string;
  servers: { name: string; address: string }[];
  port: number;
  limit: Endpoint['limit'];
}

/**
 * The configuration of HAProxy, from the groups, flows and endpoints of the system: one front end by name, a back end for each endpoint
 * whose service has a flow from the balancers of the same name, with the limit of the endpoint, a check of /health, statistics on loopback and the admin socket that a
 * rolling deploy drains servers with. `tls`: whether the certificates are there; until then there is HTTP for their issue only. Pure.
 */
export function haproxyConfiguration(system: System, on: string | readonly string[], tls: boolean): string {
  const ends = backEnds(system, on);
  return `# Written by guardia from the groups and flows of the inventory.
global
    maxconn 4096
    log /dev/log local0
    log /dev/log local1 notice
    chroot /var/lib/haproxy
    stats socket /run/haproxy/admin.sock mode 660 level admin
    stats timeout 30s
    # Written before each reload: a server that was taken out stays out.
    server-state-file /run/haproxy/server-state
    user haproxy
    group haproxy
    daemon
    ssl-default-bind-options ssl-min-ver TLSv1.2 no-tls-tickets

defaults
    log global
    load-server-state-from-file global
    mode http
    option httplog
    option dontlognull
    option forwardfor
    # A server that is gone: the next attempt goes to another one, at once.
    option redispatch 1
    retries 3
    timeout connect 2000
    timeout client 50000
    timeout server 50000

frontend public
    bind :::80 v4v6
${
  tls
    ? `    bind :::443 v4v6 ssl crt /etc/haproxy/certs/ alpn h2,http/1.1
    http-request redirect scheme https code 301 unless { ssl_fc }
    http-request set-header X-Forwarded-Proto https
    # On what it refuses itself as well.
    http-after-response set-header Strict-Transport-Security "max-age=31536000; includeSubDomains" if { ssl_fc }
    http-after-response set-header X-Frame-Options SAMEORIGIN if { ssl_fc }
    http-after-response set-header X-Content-Type-Options nosniff if { ssl_fc }
    http-after-response set-header X-XSS-Protection "1; mode=block" if { ssl_fc }
${ends.map(({ name, hostname }) => `    use_backend ${name} if { hdr(host),field(1,:) -i ${hostname} }\n`).join('')}`
    : `    # No certificates in /etc/haproxy/certs yet: nothing is served before they are there.
    http-request return status 503 content-type text/plain lf-string "no certificate yet\\n"
`
}
${ends.map(backEnd).join('\n')}
listen stats
    bind 127.0.0.1:8404
    stats enable
    stats uri /stats
    stats refresh 30s
`;
}

function backEnd({ name, hostname, servers, port, limit }: BackEnd): string {
  return `backend ${name}
    balance roundrobin
${limit === undefined ? '' : limitLines(limit)}    option httpchk
    http-check send meth GET uri /health ver HTTP/1.1 hdr Host ${hostname}
    http-check expect status 200
    default-server inter 2s fall 3 rise 2
${servers.map((server) => `    server ${server.name} ${server.address}:${port} check\n`).join('')}`;
}

/**
 * nginx's `rate` with its `burst`: so many at once after a pause, and as many a second for long. What is refused does not count, so that whoever
 * goes on asking is let in at that rate.
 */
function limitLines({ perSecond, burst, unlimited }: NonNullable<Endpoint['limit']>): string {
  const period = Math.round((burst / perSecond) * 1000);
  const counted = unlimited.length === 0 ? '' : ` unless { path_beg ${unlimited.join(' ')} }`;
  return `    # ${perSecond} requests a second from one address, ${burst} at once.
    stick-table type ipv6 size 100k expire ${period * 2}ms store gpc0,gpc0_rate(${period}ms)
    http-request track-sc0 src${counted}
    http-request deny deny_status 429 if { sc0_gpc0_rate ge ${burst} }
    http-request sc-inc-gpc0(0)${counted}
`;
}

function backEnds(system: System, on: string | readonly string[]): BackEnd[] {
  const balancers = typeof on === 'string' ? [on] : on;
  return Object.entries(system.endpoints).flatMap(([name, endpoint]): BackEnd[] => {
    const flow = Object.values(system.flows).find(
      (one) =>
        typeof one.from === 'string' &&
        balancers.includes(one.from) &&
        endpoint.service !== undefined &&
        one.to === system.services[endpoint.service]?.on,
    );
    const own = system.flows[name];
    const way = typeof own?.from === 'string' && balancers.includes(own.from) ? own : flow;
    if (!way) return [];
    const url = given(endpoint.url, `endpoints.${name}.url`);
    return [
      {
        name: `${name}_backend`,
        hostname: /^https?:\/\/([^/:]+)/.exec(url)?.[1] ?? url,
        port: way.port,
        limit: endpoint.limit,
        servers: hostsOf(system, way.to).map((host) => {
          const connection = system.hosts[host]?.connection;
          return {
            name: host,
            address:
              connection === undefined || connection === 'local'
                ? '127.0.0.1'
                : given(connection.address, `hosts.${host}.connection.address`),
          };
        }),
      },
    ];
  });
}
