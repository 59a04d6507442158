#!/bin/sh
# Runs once inside the new tree of the lab hosts, as root, with the network of the machine. See base-tree.ts.
# $1: packages of every host; $2: packages that a host can install later; /packages: where the package source is made.
set -eu
export DEBIAN_FRONTEND=noninteractive LANG=C.UTF-8 LC_ALL=C.UTF-8

# No service starts while packages are installed.
printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
echo 'APT::Keep-Downloaded-Packages "true";' > /etc/apt/apt.conf.d/10lab

apt-get -q update
apt-get -q -y install --no-install-recommends $1
apt-get -q -y install --no-install-recommends --download-only $2
apt-get -q -y install --no-install-recommends /packages/docker-compose-plugin_*.deb
mv /var/cache/apt/archives/*.deb /packages/
rm -f /etc/apt/apt.conf.d/10lab /etc/apt/apt.conf.d/20machine

# Hosts are quiet: what a test or a fixture does not want does not run.
systemctl disable postgresql.service nginx.service redis-server.service docker.service docker.socket containerd.service cron.service
systemctl mask apt-daily.timer apt-daily-upgrade.timer man-db.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
  dpkg-db-backup.timer systemd-networkd-wait-online.service console-getty.service getty@.service
systemctl enable systemd-networkd.service ssh.service
systemctl set-default multi-user.target

useradd --create-home --shell /bin/bash guardia
echo 'guardia ALL=(ALL:ALL) NOPASSWD: ALL' > /etc/sudoers.d/guardia
chmod 440 /etc/sudoers.d/guardia

# Each host gets its own.
rm -f /etc/ssh/ssh_host_* /etc/machine-id /var/lib/dbus/machine-id /etc/hostname /usr/sbin/policy-rc.d
: > /etc/machine-id
