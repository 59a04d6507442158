#!/bin/sh
# Runs inside the new trees of the lab hosts, as root. See base-tree.ts. /packages is where the package source is made.
#   bare NAMES             with the network of the machine: what every host has, and its settings
#   full NAMES OFFERED     likewise: what all but bare hosts have, and what a host can install later
#   finish                 without a network, once the package source is complete
set -eu
export DEBIAN_FRONTEND=noninteractive LANG=C.UTF-8 LC_ALL=C.UTF-8

# No service starts while packages are installed.
forbid_starts() {
  printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d
  chmod 755 /usr/sbin/policy-rc.d
}

case $1 in
  bare)
    forbid_starts
    echo 'APT::Keep-Downloaded-Packages "true";' > /etc/apt/apt.conf.d/10lab
    apt-get -q update
    apt-get -q -y install --no-install-recommends $2
    mv /var/cache/apt/archives/*.deb /packages/

    # Hosts are quiet: what a test or a fixture does not want does not run.
    systemctl disable cron.service
    systemctl mask apt-daily.timer apt-daily-upgrade.timer man-db.timer e2scrub_all.timer e2scrub_reap.service fstrim.timer \
      dpkg-db-backup.timer systemd-networkd-wait-online.service console-getty.service getty@.service
    systemctl enable systemd-networkd.service ssh.service
    systemctl set-default multi-user.target

    useradd --create-home --shell /bin/bash guardia
    echo 'guardia ALL=(ALL:ALL) NOPASSWD: ALL' > /etc/sudoers.d/guardia
    chmod 440 /etc/sudoers.d/guardia
    ;;
  full)
    apt-get -q -y install --no-install-recommends $2
    apt-get -q -y install --no-install-recommends /packages/docker-compose-plugin_*.deb
    apt-get -q -y install --no-install-recommends --download-only $3
    mv /var/cache/apt/archives/*.deb /packages/
    systemctl disable postgresql.service nginx.service redis-server.service docker.service docker.socket containerd.service
    ;;
  finish)
    rm -f /etc/apt/apt.conf.d/10lab
    apt-get -q update
    # Each host gets its own.
    rm -f /etc/ssh/ssh_host_* /etc/machine-id /var/lib/dbus/machine-id /etc/hostname /usr/sbin/policy-rc.d
    : > /etc/machine-id
    ;;
esac
