#!/bin/bash
# Sets a lab host up with small real services for the probes to look at: nginx with TLS good and bad, Redis, Docker, ufw.
set -euo pipefail
address=$1
install -d /srv/tls /srv/www/limited /srv/image /srv/cache
cd /srv/tls

# An authority of the lab, a certificate that is right, one that nobody trusts for another name, and one that is over at once.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 90 -subj '/CN=lab authority' -keyout ca.key -out ca.pem 2>/dev/null
issue() { # NAME DAYS
  openssl req -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj "/CN=$1" -keyout "$1.key" -out "$1.csr" 2>/dev/null
  openssl x509 -req -in "$1.csr" -CA ca.pem -CAkey ca.key -CAcreateserial -days "$2" -out "$1.pem" \
    -extfile <(echo "subjectAltName=DNS:$1,DNS:localhost") 2>/dev/null
}
issue api.lab.test 60
issue over.lab.test 0
openssl req -newkey ed25519 -nodes -subj /CN=edwards.lab.test -keyout edwards.key -out edwards.csr 2>/dev/null
openssl x509 -req -in edwards.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 60 -out edwards.pem -extfile <(echo subjectAltName=DNS:edwards.lab.test) 2>/dev/null
openssl req -x509 -newkey rsa:2048 -nodes -days 60 -subj '/CN=other.lab.test' -addext 'subjectAltName=DNS:other.lab.test' \
  -keyout other.key -out other.pem 2>/dev/null

echo hello >/srv/www/limited/index.html
cat >/etc/nginx/sites-enabled/probes <<'END'
limit_req_zone $binary_remote_addr zone=few:1m rate=10r/s;
server {
  listen 81;
  server_name api.lab.test;
  location /elsewhere { return 301 https://other.lab.test/; }
  location / { return 301 https://$host$request_uri; }
}
server {
  listen 8446 ssl;
  ssl_certificate /srv/tls/edwards.pem;
  ssl_certificate_key /srv/tls/edwards.key;
  ssl_protocols TLSv1.2 TLSv1.3;
  ssl_ciphers ECDHE+AESGCM;
}
server {
  listen 8443 ssl;
  server_name api.lab.test;
  ssl_certificate /srv/tls/api.lab.test.pem;
  ssl_certificate_key /srv/tls/api.lab.test.key;
  ssl_protocols TLSv1.2 TLSv1.3;
  ssl_ciphers HIGH:!aNULL:!MD5;
  add_header Strict-Transport-Security "max-age=31536000; includeSubDomains" always;
  add_header X-Frame-Options "SAMEORIGIN" always;
  default_type application/json;
  location = /health { return 200 '{"status":"healthy","checks":[{"ok":true}]}'; }
  location = /sick { return 503 '{"status":"sealed"}'; }
  location = /text { return 200 'not json'; }
  location = /login {
    add_header Set-Cookie "session=1; Path=/; Secure; HttpOnly; SameSite=Lax";
    add_header Set-Cookie "tracker=1; Path=/";
    return 200 'in';
  }
  location = /key { if ($http_x_api_key != "the-lab-key") { return 401; } return 200 'welcome'; }
  location / { root /srv/www/limited; limit_req zone=few burst=5 nodelay; limit_req_status 429; }
  # Stand-ins for servers that Debian does not have: they answer as their documentation says.
  location = /v1/sys/seal-status { return 200 '{"type":"shamir","initialized":true,"sealed":false,"version":"2.4.4"}'; }
  location = /sealed/v1/sys/seal-status { return 200 '{"type":"shamir","initialized":true,"sealed":true,"version":"2.4.4"}'; }
  location = /api/health/checks/alarms {
    if ($http_authorization != "Basic bW9uaXRvcjpyYWJiaXQtcGFzc3dvcmQ=") { return 401; }
    return 200 '{"status":"ok"}';
  }
  location = /alarmed/api/health/checks/alarms { return 503 '{"status":"failed","reason":"There are alarms in effect in the cluster"}'; }
  location = /api/status-page/shop { return 200 '{"publicGroupList":[{"monitorList":[{"id":1,"name":"web"},{"id":2,"name":"mail"}]}]}'; }
  location = /api/status-page/heartbeat/shop { return 200 '{"heartbeatList":{"1":[{"status":0},{"status":1}],"2":[{"status":1}]}}'; }
  location = /api/status-page/down { return 200 '{"publicGroupList":[{"monitorList":[{"id":2,"name":"mail"}]}]}'; }
  location = /api/status-page/heartbeat/down { return 200 '{"heartbeatList":{"2":[{"status":1},{"status":0}]}}'; }
}
server {
  listen 8444 ssl;
  ssl_certificate /srv/tls/other.pem;
  ssl_certificate_key /srv/tls/other.key;
  ssl_protocols TLSv1 TLSv1.1 TLSv1.2;
  ssl_ciphers ALL:eNULL:@SECLEVEL=0;
  location / { return 200 old; }
}
server {
  listen 8445 ssl;
  ssl_certificate /srv/tls/over.lab.test.pem;
  ssl_certificate_key /srv/tls/over.lab.test.key;
  location / { return 200 over; }
}
END
systemctl restart nginx

redis-server --port 6379 --daemonize yes >/dev/null
redis-server --port 6380 --requirepass redis-password --daemonize yes >/dev/null
redis-server --port 0 --tls-port 6390 --tls-cert-file /srv/tls/api.lab.test.pem --tls-key-file /srv/tls/api.lab.test.key \
  --tls-ca-cert-file /srv/tls/ca.pem --tls-auth-clients no --requirepass redis-password --daemonize yes >/dev/null

# A compose service that publishes a port, made of the host's own programs.
mkdir -p /srv/image/{tmp,run,data}
chmod 1777 /srv/image/tmp
for name in bin sbin lib lib64; do ln -s usr/$name /srv/image/$name; done
tar -C /srv/image -c . | docker import - lab/host:1 >/dev/null
cat >/srv/cache/compose.yaml <<'END'
name: cache
services:
  store:
    image: lab/host:1
    command: [/usr/bin/redis-server, --protected-mode, 'no', --dir, /tmp]
    volumes: ['/usr:/usr:ro']
    ports: ['8200:6379']
    healthcheck: { test: [CMD, /usr/bin/redis-cli, ping], interval: 1s, start_period: 1s }
  sick:
    image: lab/host:1
    command: [/usr/bin/sleep, infinity]
    volumes: ['/usr:/usr:ro']
    network_mode: none
    healthcheck: { test: [CMD, /usr/bin/false], interval: 1s, retries: 1 }
END
docker compose --progress quiet -f /srv/cache/compose.yaml up -d
docker run --detach --name alone --network none --volume /usr:/usr:ro lab/host:1 /usr/bin/sleep infinity >/dev/null

apt-get install -qq -y ufw >/dev/null 2>&1
for port in 22 81 8443; do ufw allow "$port/tcp" >/dev/null; done
ufw allow from "$address" to any port 9000 proto tcp >/dev/null
ufw --force enable >/dev/null
