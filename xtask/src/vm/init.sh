#!/bin/busybox sh
# A guest's first process: mounts what a Linux has, runs /command, tells its status, powers off.
# The kernel writes to ttyS0; only the command writes to ttyS1, so that neither breaks the other's
# lines. /settings holds: token, bpffs, hugepages, interactive.

/bin/busybox --install -s /bin
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM=linux TRACKER_VM=1
. /settings

mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t tmpfs tmp /tmp
mount -t tracefs tracing /sys/kernel/tracing
mount -t debugfs debug /sys/kernel/debug
mount -t cgroup2 cgroup /sys/fs/cgroup
[ "$bpffs" = no ] || mount -t bpf bpf /sys/fs/bpf
# Files that are not on tmpfs, for the rows about files; shmem huge pages on request.
mkdir -p /ramfs
mount -t ramfs ramfs /ramfs
export TMPDIR=/ramfs
echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled
echo madvise > /sys/kernel/mm/transparent_hugepage/enabled
echo "$hugepages" > /proc/sys/vm/nr_hugepages

ip link set lo up
# In the order of their names, which is that of their dependencies.
for module in /modules/*.ko; do
    [ ! -e "$module" ] || insmod "$module"
done
if [ -b /dev/vda ]; then
    mkswap /dev/vda > /dev/null
    swapon /dev/vda
fi
if [ -e /sys/class/net/eth0 ]; then
    ip link set eth0 up
    ip address add 10.0.2.15/24 dev eth0
    ip route add default via 10.0.2.2
fi

cd /root
if [ "$interactive" = yes ]; then
    stty -F /dev/ttyS1 sane
    echo "Linux $(uname -r). The agent: tracker agent. Leave with: exit" > /dev/ttyS1
    setsid -c sh -l < /dev/ttyS1 > /dev/ttyS1 2>&1
else
    stty -F /dev/ttyS1 raw
    echo "$token begin" > /dev/ttyS1
    setsid sh /command < /dev/null > /dev/ttyS1 2>&1
    printf '%s exit %d\n' "$token" $? > /dev/ttyS1
fi
poweroff -f
