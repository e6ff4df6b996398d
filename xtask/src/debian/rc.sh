#!/bin/busybox sh
# What comes before the shell: file systems, the guest's name, the modules for what a guest may be given.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
$b mkdir -p /dev/pts /dev/shm
$b mount -t devpts -o mode=620 pts /dev/pts
$b mount -t tmpfs -o mode=1777 tmp /tmp
$b mount -t tmpfs -o mode=755 run /run
$b --install -s /bin

# `hostname=` on the kernel's command line, else the guest's name in the machine file.
name=$(sed -n 's/.*\<hostname=\([^ ]*\).*/\1/p' /proc/cmdline)
[ -n "$name" ] || name=$(tr -d '\0' 2>/dev/null </proc/device-tree/chosen/xdv,guest-name)
hostname "${name:-linux}"
ip link set lo up 2>/dev/null

# Modules of another kernel than the running one are of no use.
if [ -f /lib/modules/version ] && [ "$(cat /lib/modules/version)" = "$(uname -r)" ]; then
    ln -s . "/lib/modules/$(uname -r)"
    for module in $(cat /lib/modules/boot); do
        modprobe "$module" || echo "the module $module was not loaded"
    done
fi

read -r seconds _ </proc/uptime
echo "user space reached $seconds s after the kernel began"
if [ -f /etc/selftest ] || grep -qw xdv.selftest /proc/cmdline; then
    if [ -f /bin/load ]; then load; else selftest; fi
    # Busybox's poweroff and not init's: nothing runs that would need to be told.
    poweroff -f
fi
cat <<END
$(uname -srm) in the guest $(hostname): $(nproc) CPUs, $(awk '/MemTotal/ { printf "%d", $2 / 1024 }' /proc/meminfo) MiB.
This is busybox in memory: nothing is kept. To try: cat /proc/interrupts, selftest, poweroff, reboot.
END
