#!/bin/sh
# Builds one root file system for the test host. Run by root.ts under a lock, in its own mount and process namespace, so that
# a build that is killed leaves no mount and no process behind. This file's bytes are the recipe: its hash names the result.
#
#   build-root.sh SUITE FINAL MIRROR KEYRING DOWNLOADS
set -eu
suite=$1 final=$2 mirror=$3 keyring=$4 downloads=$5

[ ! -d "$final" ] || exit 0 # another process built it while this one waited for the lock
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 PATH="$PATH:/usr/sbin:/sbin"

# The lock is held, so an unfinished folder of this suite belongs to a build that was killed.
rm -rf --one-file-system "$(dirname "$final")/unfinished-$suite"*
root=$(mktemp -d "$(dirname "$final")/unfinished-$suite.XXXXXX")
chmod 755 "$root"
mkdir -p "$downloads/debootstrap" "$downloads/apt/partial"

debootstrap --variant=minbase --keyring="$keyring" --cache-dir="$downloads/debootstrap" \
	--include=systemd,systemd-sysv,dbus "$suite" "$root" "$mirror"

# For the build only: this machine's way to the mirror, no service starts, nothing that no test reads.
cp "$keyring" "$root/etc/apt/trusted.gpg.d/"
apt-config dump | grep -E '^Acquire::(https?|Retries|Check-)' >"$root/etc/apt/apt.conf.d/00build" || true
[ ! -e /etc/ssl/certs/ca-certificates.crt ] || cp --parents /etc/ssl/certs/ca-certificates.crt "$root"
cp -L /etc/resolv.conf "$root/etc/resolv.conf" 2>/dev/null || true
printf '#!/bin/sh\nexit 101\n' >"$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
cat >"$root/etc/dpkg/dpkg.cfg.d/00build" <<-'END'
	force-unsafe-io
	path-exclude=/usr/share/doc/*
	path-exclude=/usr/share/info/*
	path-exclude=/usr/share/locale/*
	path-exclude=/usr/share/man/*
END
mount --bind "$downloads/apt" "$root/var/cache/apt/archives"

# dnf and rpm: a host has one package manager, this one has both, so that both packages are tried on it.
# crun and not only runc: podman can leave cgroups alone with it alone. netavark is podman's nftables/iptables driver of today.
packages="arping aardvark-dns awscli busybox-static ca-certificates conntrack crun curl dnf docker.io firewalld iproute2 iptables
	iputils-ping jq kmod libatomic1 libstdc++6 libsystemd0 netavark netcat-openbsd nftables podman procps python3-boto3 rpm ufw"
[ "$suite" = bookworm ] || packages="$packages docker-cli"
chroot "$root" apt-get -q update
# shellcheck disable=SC2086 # a list of words
chroot "$root" apt-get -q -y --no-install-recommends -o APT::Keep-Downloaded-Packages=true install $packages

umount "$root/var/cache/apt/archives"
rm "$root/usr/sbin/policy-rc.d" "$root/etc/dpkg/dpkg.cfg.d/00build" "$root/etc/apt/apt.conf.d/00build"
rm -rf "$root"/var/lib/apt/lists/*
# There is no network in the host: `apt-get install ./x.deb` must find all it needs installed, and ask nobody.
: >"$root/etc/apt/sources.list"
: >"$root/etc/resolv.conf"
rm -f "$root/etc/hostname" "$root/etc/machine-id" "$root/var/lib/dbus/machine-id"
printf '127.0.0.1 localhost\n::1 localhost\n' >"$root/etc/hosts"

# Started by the tests that are about them.
chroot "$root" systemctl disable ufw.service firewalld.service nftables.service
# Periodic work, and boot steps that have no meaning here.
chroot "$root" systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
	fstrim.timer podman-auto-update.timer podman-auto-update.service systemd-modules-load.service systemd-pstore.service

# The journal outlives a reboot, and no line of a busy test is dropped.
mkdir -p "$root/var/log/journal" "$root/etc/systemd/journald.conf.d" "$root/etc/systemd/system.conf.d" "$root/etc/containers"
printf '[Journal]\nStorage=persistent\nRateLimitIntervalSec=0\nSystemMaxUse=64M\n' >"$root/etc/systemd/journald.conf.d/testhost.conf"
printf '[Manager]\nDefaultTimeoutStopSec=15s\n' >"$root/etc/systemd/system.conf.d/testhost.conf"
# The controllers may be on cgroup v1 of the machine outside, where podman cannot set limits.
printf '[containers]\ncgroups = "disabled"\n' >"$root/etc/containers/containers.conf"

# What `docker import` and `podman import` make the image bb:latest of.
bb=$(mktemp -d)
mkdir -p "$bb/bin" "$bb/tmp" "$bb/etc" "$bb/proc" "$bb/sys" "$bb/dev"
cp "$root/bin/busybox" "$bb/bin/busybox"
for applet in $("$bb/bin/busybox" --list); do
	[ "$applet" = busybox ] || ln -s busybox "$bb/bin/$applet"
done
printf 'root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$bb/etc/passwd"
mkdir -p "$root/usr/local/lib/testhost"
tar -C "$bb" -cf "$root/usr/local/lib/testhost/bb.tar" .
rm -rf "$bb"

# Who runs a proxy from source: an ordinary user that may ask the engine.
chroot "$root" useradd --system --no-create-home --home-dir /nonexistent --groups docker --shell /usr/sbin/nologin testproxy

mv -T "$root" "$final"
