#!/bin/busybox sh
# What comes before the shell: file systems, the modules for the devices that are there, the guest's name.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
$b mount -t tmpfs -o mode=755 run /run

# Modules of another kernel than the running one are of no use, and what has no file here is built in. What was loaded
# is noted for the self-test. The shell's own words as far as they go: each program costs milliseconds of every boot.
release=
[ ! -f /lib/modules/version ] || read -r release </lib/modules/version
read -r running </proc/sys/kernel/osrelease
load() {
    [ "$release" = "$running" ] && [ -f "/lib/modules/$1.ko" ] && [ ! -d "/sys/module/$1" ] || return 0
    echo "$1" >>/run/modules
    $b modprobe "$1" || echo "the module $1 was not loaded"
}
# The driver of each kind of virtio device (virtio 1.3, 5), of one kind or of all.
drivers() {
    for device in /sys/bus/virtio/devices/*/device; do
        [ -f "$device" ] || return 0
        read -r kind <"$device"
        [ -z "$1" ] || [ "$kind" = "$1" ] || continue
        case $kind in
            0x0001) load virtio_net ;;
            0x0002) load virtio_blk ;;
            0x0003) load virtio_console ;;
            0x0004) load virtio_rng ;;
            0x0005) load virtio_balloon ;;
            0x0013) load vmw_vsock_virtio_transport ;;
        esac
    done
}
if [ "$release" = "$running" ]; then
    $b ln -s . "/lib/modules/$release"
    # What the kernel asks for by itself: a file system.
    echo /bin/modprobe >/proc/sys/kernel/modprobe
    for device in /sys/bus/platform/devices/*virtio_mmio*; do
        [ ! -e "$device" ] || load virtio_mmio
        break
    done
    # The console first: what others say can be heard then.
    drivers 0x0003
    drivers ""
    [ ! -e /sys/bus/platform/devices/smccc_trng ] || load arm_smccc_trng
fi

# The console may be a virtio device, which the kernel did not have when it began and takes a moment to talk to.
read -r line </proc/cmdline
consoles=
tries=0
while [ $tries -lt 100 ]; do
    read -r consoles </sys/class/tty/console/active
    case $line in
        *console=hvc*) case $consoles in *hvc*) break ;; esac ;;
        *) break ;;
    esac
    [ -d /sys/bus/virtio/drivers/virtio_console ] || break
    tries=$((tries + 1))
    $b sleep 0.05
done
console=${consoles##* }
$b ln -s "${console:-ttyAMA0}" /dev/shell
# Who was told of a console that there is no driver for has a serial port all the same.
if [ -n "$console" ]; then
    exec </dev/console >/dev/console 2>&1
elif [ -c /dev/ttyAMA0 ]; then
    exec <>/dev/ttyAMA0 >&0 2>&1
fi
# What is typed before the shell is there waits for it as long as somebody has the terminal open: the kernel itself has a
# serial port open, but no terminal that it did not have when it began.
case $console in hvc*) $b sleep 60 <"/dev/$console" >/dev/null 2>&1 & ;; esac

$b mkdir -p /dev/pts /dev/shm
$b mount -t devpts -o mode=620 pts /dev/pts
$b mount -t tmpfs -o mode=1777 tmp /tmp
$b --install -s /bin

# `hostname=` on the kernel's command line, else the guest's name in the machine file.
name=$(sed -n 's/.*\<hostname=\([^ ]*\).*/\1/p' /proc/cmdline)
[ -n "$name" ] || name=$(tr -d '\0' 2>/dev/null </proc/device-tree/chosen/xdv,guest-name)
hostname "${name:-linux}"
ip link set lo up 2>/dev/null

read -r seconds _ </proc/uptime
echo "user space reached $seconds s after the kernel began"
if [ -f /etc/selftest ] || grep -qw xdv.selftest /proc/cmdline; then
    read -r check </etc/check
    $check
    # Busybox's poweroff and not init's: nothing runs that would need to be told.
    poweroff -f
fi
cat <<END
$(uname -srm) in the guest $(hostname): $(nproc) CPUs, $(awk '/MemTotal/ { printf "%d", $2 / 1024 }' /proc/meminfo) MiB.
This is busybox in memory: nothing is kept. To try: cat /proc/interrupts, selftest, poweroff, reboot.
END
