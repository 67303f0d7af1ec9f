#!/bin/busybox sh
# The first process of a guest: mounts the usual file systems, runs /command, prints its status and
# powers off. The kernel writes to ttyS0 and only the command to ttyS1, so that neither breaks the
# lines of the other. /settings sets token, bpffs, hugepages and interactive.

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
# The workload's rows about files need files that are not on tmpfs. Huge pages only where asked for.
mkdir -p /ramfs
mount -t ramfs ramfs /ramfs
export TMPDIR=/ramfs
echo advise > /sys/kernel/mm/transparent_hugepage/shmem_enabled
echo madvise > /sys/kernel/mm/transparent_hugepage/enabled
echo "$hugepages" > /proc/sys/vm/nr_hugepages

ip link set lo up
# The order of their names is that of their dependencies.
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
