#!/bin/sh
# Turns the file tree that mmdebstrap made into the guest of `yado run debian`. mmdebstrap runs
# this as its customize hook, outside of the tree and, without root, in its user namespace. So the
# results leave through open files: 107 the kernel, 108 the initrd, 109 the disk, which has its size.
set -eu
root=$1
etc=$root/etc
work=$root/tmp/yado

echo debian >"$etc/hostname"
cat >"$etc/hosts" <<'END'
127.0.0.1 localhost
127.0.1.1 debian
::1 localhost ip6-localhost ip6-loopback
END
echo '/dev/vda / ext4 discard,errors=remount-ro 0 0' >"$etc/fstab"
cat >"$etc/motd" <<'END'

Debian in a VM of yado. `poweroff` ends it; Ctrl-] q ends it at once.

END

# Network: DHCP on whatever there is; names by systemd-resolved.
cat >"$etc/systemd/network/80-dhcp.network" <<'END'
[Match]
Name=en* eth*
[Network]
DHCP=yes
END
ln -sf ../run/systemd/resolve/stub-resolv.conf "$etc/resolv.conf"
chroot "$root" systemctl -q enable systemd-networkd

# The console logs root in by itself: who can type on it owns the disk anyway.
mkdir -p "$etc/systemd/system/serial-getty@ttyS0.service.d"
cat >"$etc/systemd/system/serial-getty@ttyS0.service.d/autologin.conf" <<'END'
[Service]
ExecStart=
ExecStart=-/sbin/agetty --autologin root --noclear --keep-baud 115200 %I $TERM
END

# What only costs time in a VM that runs for an hour.
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
	e2scrub_reap.service fstrim.timer getty@tty1.service systemd-firstboot.service \
	systemd-networkd-wait-online.service systemd-update-utmp.service \
	systemd-journal-flush.service systemd-pstore.service; do
	ln -sf /dev/null "$etc/systemd/system/$unit"
done
mkdir -p "$etc/systemd/journald.conf.d"
printf '[Journal]\nStorage=volatile\n' >"$etc/systemd/journald.conf.d/volatile.conf"
# The disk belongs to one VM: it can have its identity now and skip the first boot's set-up.
tr -d - </proc/sys/kernel/random/uuid >"$etc/machine-id"

# Debian's kernel is not installed but unpacked: yado starts it from outside. Its modules go in.
mkdir -p "$work/initrd/bin" "$work/initrd/dev" "$work/initrd/proc" "$work/initrd/root"
cd "$work"
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: //p' | head -n 1)
apt-get -q -o APT::Sandbox::User=root download "$kernel" busybox-static
unset APT_CONFIG
dpkg-deb -x linux-image-*.deb kernel
dpkg-deb -x busybox-static_*.deb busybox
release=${kernel#linux-image-}
cat "kernel/boot/vmlinuz-$release" >/proc/self/fd/107
mkdir -p "$root/usr/lib/modules"
mv "kernel/lib/modules/$release" "$root/usr/lib/modules/"
chroot "$root" depmod "$release"

# The initrd: just what finds the disk. It is far smaller than a general one, and boots faster.
cp busybox/bin/busybox initrd/bin/
{
	echo '#!/bin/busybox sh'
	echo '/bin/busybox mount -t devtmpfs dev /dev'
	echo '/bin/busybox mount -t proc proc /proc'
	chroot "$root" modprobe -a --show-depends -S "$release" virtio_pci virtio_blk |
		sed -n 's/^insmod //p' | awk '!seen[$1]++ { print $1 }' |
		while read -r module; do
			cp "$root$module" initrd/
			echo "/bin/busybox insmod /${module##*/}"
		done
	cat <<'END'
disk=/dev/vda mode=ro
for word in $(/bin/busybox cat /proc/cmdline); do
	case $word in
	root=*) disk=${word#root=} ;;
	rw | ro) mode=$word ;;
	esac
done
tries=0
until [ -b "$disk" ] || [ "$tries" = 100 ]; do
	/bin/busybox usleep 50000
	tries=$((tries + 1))
done
if ! /bin/busybox mount -t ext4 -o "$mode" "$disk" /root; then
	echo "There is no root disk $disk; is --disk missing? Here is a small shell."
	/bin/busybox --install -s /bin
	exec /bin/sh
fi
/bin/busybox mount --move /dev /root/dev
/bin/busybox umount /proc
exec /bin/busybox switch_root /root /sbin/init
END
} >initrd/init
chmod 755 initrd/init
(cd initrd && find . | ../busybox/bin/busybox cpio -o -H newc -R 0:0) | gzip -9 >/proc/self/fd/108

# The tree is done; what made it does not belong to it.
cd /
rm -rf "$work" "$root"/var/lib/apt/lists/* "$root"/var/cache/apt/* "$root"/var/log/* \
	"$root"/var/cache/debconf/*-old "$root"/var/lib/dpkg/*-old
mkdir -p "$root/var/lib/apt/lists/partial" "$root/var/cache/apt/archives/partial"
# Not older than anything in /usr: else the first boot would bring all caches up to date.
touch "$etc/.updated" "$root/var/.updated"
# Seen through a bind mount the tree is without /proc and the like, which are mounted on it now.
tree=$(mktemp -d)
mount --bind "$root" "$tree"
trap 'umount "$tree"; rmdir "$tree"' EXIT
mke2fs -q -F -t ext4 -L debian -m 1 -E lazy_itable_init=1 -d "$tree" /proc/self/fd/109
