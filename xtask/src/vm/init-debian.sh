#!/bin/busybox sh
# The first process of a guest that is a Debian: configures its packages as an installation does,
# and goes on as its systemd. The kernel writes to ttyS0 and only the command to ttyS1.

/bin/busybox --install -s /bin
export PATH=/bin:/sbin:/usr/bin:/usr/sbin DEBIAN_FRONTEND=noninteractive LC_ALL=C
. /settings

mount -t devtmpfs dev /dev
stty -F /dev/ttyS1 raw
echo "$token begin" > /dev/ttyS1

configure() {
    if ! chroot /debian /usr/bin/dpkg --configure "$@" > /configure.log 2>&1; then
        cat /configure.log > /dev/ttyS1
        printf '%s exit 1\n' "$token" > /dev/ttyS1
        poweroff -f
    fi
}

# A mount of its own, so that units can change their root.
mount --bind /debian /debian
mount -t proc proc /debian/proc
mount -t sysfs sys /debian/sys
mount --bind /dev /debian/dev
# These two bring the first users and /etc, which others need.
configure --force-depends base-passwd base-files
configure -a
for place in proc sys dev; do
    umount "/debian/$place"
done
cd /debian
mount --move . /
exec chroot . /sbin/init
