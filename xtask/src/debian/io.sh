#!/bin/busybox sh
# Disks, networks and what else virtio brings, as a program sees them. `io WHAT [ARGUMENT...]`, or `xdv.io=WHAT:ARGUMENT`
# on the kernel's command line, several of them with `+` between. The last line is the self-test's.
#
#   devices KIND...             a device of each kind has its driver: net block console rng balloon vsock
#   disk [DEVICE]               mkfs, files, reboot, fsck and the files again, and once more without unmounting
#   fsx SECONDS [DEVICE]        a file of an ext4 against a model
#   verify SECONDS [DEVICE]     a device's blocks against a model
#   fio SECONDS [DEVICE]        fio's own verification (the kit with fio)
#   flood SECONDS [DEVICE]      a queue that is full of large reads
#   ledger LIVES SECONDS [DEVICE]   batches of flushed records, for somebody who ends the guest at any moment
#   journal LIVES SECONDS [DEVICE]  the same in a file of an ext4
#   latency [DEVICE]            what one request takes
#   net ME PEER                 two guests: ping, streams, datagrams, iperf3 both ways; the last number of ME/24 is who begins
#   uplink ME HOST PORT         ping, and streams to `probe serve PORT` of a host
#   vsock PEER                  streams between two guests; with 2 to the host's echo
#   tolerant                    I/O errors in what the kernel says are no complaint: faults are injected
#   entropy                     the kernel's hardware random numbers
export PATH=/bin
asked=$(sed -n 's/.*\<xdv\.io=\([^ ]*\).*/\1/p' /proc/cmdline)
[ $# = 0 ] || asked=$(echo "$*" | tr ' ' ':')
failed=
good() { echo "io: $*"; }
bad() {
    echo "io: not so: $*"
    failed="$failed${failed:+; }$*"
}
# Runs a command, shows what it says, and complains if it fails.
do_well() {
    "$@" >/tmp/said 2>&1
    code=$?
    sed 's/^/io: /' /tmp/said
    [ $code = 0 ] || bad "$* ended with $code"
    return $code
}
again() { # reboots in place: what follows is in the next life
    good "rebooting: $*"
    reboot -f
    sleep 60
}
mounted() {
    mkdir -p /mnt
    do_well mount -t ext4 "$1" /mnt
}
is_ext4() { [ "$(od -An -tx2 -j 1080 -N 2 "$1" | tr -d ' ')" = ef53 ]; }
# What ext4 kept of an unclean end comes back from its journal, and then nothing is left to mend.
fsck() {
    fsck.ext4 -p "$1" >/tmp/said 2>&1
    [ $? -le 1 ] || bad "fsck -p: $(cat /tmp/said)"
    do_well fsck.ext4 -fn "$1" && good "fsck: clean"
}
write_files() { # folder
    mkdir "/mnt/$1"
    for size in 1 511 4096 70000 1000000 3000000; do
        head -c $size /dev/urandom >"/mnt/$1/$size"
    done
    for number in $(seq 100); do echo "$1 $number" >"/mnt/$1/small-$number"; done
    (cd /mnt && md5sum "$1"/* >"$1.md5")
}
same_files() { # folder
    if (cd /mnt && md5sum -c "$1.md5") >/tmp/said 2>&1; then
        good "files of the $1 life: equal ($(wc -l </tmp/said))"
    else
        bad "files of the $1 life differ: $(grep -v 'OK$' /tmp/said | head -n 3)"
    fi
}

disk() {
    device=${1:-/dev/vda}
    [ -b "$device" ] || { bad "there is no $device"; return; }
    if ! is_ext4 "$device"; then
        do_well mkfs.ext4 -q -F "$device" || return
        mounted "$device" || return
        write_files first
        do_well umount /mnt
        again "with the disk unmounted"
    fi
    fsck "$device"
    mounted "$device" || return
    same_files first
    if [ ! -d /mnt/second ]; then
        write_files second
        sync
        again "with the disk mounted"
    fi
    same_files second
    do_well umount /mnt
}

ext4() { # an empty one on the device, mounted
    do_well mkfs.ext4 -q -F "$1" && mounted "$1"
}

fsx() {
    ext4 "${2:-/dev/vda}" || return
    do_well probe fsx /mnt/fsx "$1"
    do_well umount /mnt
    fsck "${2:-/dev/vda}"
}

verify() { do_well probe disk "${2:-/dev/vda}" "$1"; }

# Random writes of many sizes with a checksum in each block, read back and compared; the same through an ext4.
fio() {
    device=${2:-/dev/vda}
    options="--time_based --runtime=$(($1 / 2)) --ioengine=libaio --direct=1 --iodepth=16 --verify=crc32c --verify_fatal=1 --randrepeat=0 --group_reporting --output-format=terse --minimal"
    for rw in randwrite randrw; do
        if /bin/fio --name=$rw --filename="$device" --rw=$rw --bsrange=4k-64k --verify_backlog=256 $options >/tmp/said 2>&1; then
            good "fio $rw: $(awk -F ';' '$1 == 3 { printf "%d MiB read, %d MiB written, %d errors", $6 / 1024, $47 / 1024, $NF == "" ? 0 : $5 }' /tmp/said)"
        else
            bad "fio $rw: $(tail -n 5 /tmp/said)"
        fi
    done
}

flood() {
    for _ in $(seq 40); do
        while :; do dd if="${2:-/dev/vda}" of=/dev/null bs=4M iflag=direct 2>/dev/null || break; done &
    done
    sleep "$1"
    read -r _ _ sectors _ <"/sys/block/$(basename "${2:-/dev/vda}")/stat"
    kill $(jobs -p)
    wait
    good "flood: $((sectors / 2048)) MiB read"
    [ "$sectors" -gt 204800 ] || bad "no flood"
}

ledger() { # lives, seconds a life, device
    lives $1 "${3:-/dev/vda}" $2
}
journal() {
    device=${3:-/dev/vda}
    if is_ext4 "$device"; then
        fsck "$device"
        mounted "$device" || return
    else
        ext4 "$device" || return
    fi
    lives $1 /mnt/ledger $2
    do_well umount /mnt
}
# The last life only looks, and is short; who ends the guest looks for `flushed`.
lives() {
    if [ -e "$2" ] && probe ledger "$2" 0 >/tmp/said 2>&1; then
        sed 's/^/io: /' /tmp/said
    elif [ -e "$2" ]; then
        bad "$(cat /tmp/said)"
        return
    fi
    life=$(sed -n 's/.*life \([0-9]*\),.*/\1/p' /tmp/said)
    [ "${life:-1}" -gt "$1" ] || probe ledger "$2" "$3" || bad "the ledger ended with $?"
}

latency() {
    for bytes in 512 4096 65536; do
        do_well probe latency read "${1:-/dev/vda}" $bytes 1000
        do_well probe latency write "${1:-/dev/vda}" $bytes 1000
    done
}

address() { # me: the first network device that has no address yet
    ! ip addr show | grep -q "inet $1/" || return 0
    for nic in /sys/class/net/*; do
        nic=${nic##*/}
        [ "$nic" != lo ] || continue
        ip addr show "$nic" | grep -q 'inet ' || break
    done
    do_well ip addr add "$1/24" dev "$nic" && do_well ip link set "$nic" up
}
reached() {
    for _ in $(seq 60); do
        ping -c 1 -W 1 "$1" >/dev/null 2>&1 && return
    done
    bad "$1 does not answer a ping"
    return 1
}
# Until the other is through: it says `bye` to our server.
farewell() {
    do_well probe bye "$1"
    for _ in $(seq 1200); do
        [ ! -e /run/bye ] || return
        sleep 0.1
    done
    bad "the peer did not come to its end"
}
rate() { awk -v what="$1" '/sender|receiver/ { way = $NF; for (i = 1; i <= NF; i++) if ($i ~ /bits\/sec/) printf "io: iperf3 %s: %s %s, %s\n", what, $(i - 1), $i, way }' /tmp/said; }

net() {
    address "$1"
    probe serve 7000 >/tmp/served 2>&1 &
    iperf3 -s -D
    reached "$2" || return
    ping -c 5 -i 0.2 "$2" >/tmp/said 2>&1 || bad "ping: $(cat /tmp/said)"
    sed -n 's/^round-trip/io: ping: round-trip/p' /tmp/said
    ping -c 3 -s 8000 "$2" >/tmp/said 2>&1 || bad "ping with 8000 bytes: $(cat /tmp/said)"
    do_well probe talk "$2:7000" 4
    do_well probe udp "$2:7000" 1000
    if [ "${1##*.}" -lt "${2##*.}" ]; then
        for way in "" -R "-u -b 20M"; do
            iperf3 -c "$2" -t 1 -f m $way >/tmp/said 2>&1 || bad "iperf3 $way: $(tail -n 3 /tmp/said)"
            rate "TCP or UDP $way"
        done
    fi
    farewell "$2:7000"
    if grep 'not so' /tmp/served; then bad "the server complains"; fi
}

uplink() {
    address "$1"
    reached "$2" || return
    do_well probe talk "$2:$3" 4
}

echo_of() { do_well probe echo "vsock:$1:7" 4; }
vsock() {
    if [ "$1" = 2 ]; then echo_of 2; return; fi
    probe serve vsock:7000 >/tmp/served 2>&1 &
    do_well probe talk "vsock:$1:7000" 4
    farewell "vsock:$1:7000"
}

entropy() {
    sources=$(cat /sys/class/misc/hw_random/rng_available)
    case $sources in
        *virtio_rng*) ;;
        *) bad "the sources of random numbers are: $sources" ;;
    esac
    for source in $sources; do
        case $source in virtio_rng*) echo "$source" >/sys/class/misc/hw_random/rng_current ;; esac
    done
    head -c 65536 /dev/hwrng >/tmp/first
    head -c 65536 /dev/hwrng >/tmp/second
    [ "$(wc -c </tmp/first)" = 65536 ] || bad "/dev/hwrng gave $(wc -c </tmp/first) bytes"
    ! cmp -s /tmp/first /tmp/second || bad "/dev/hwrng gave the same twice"
    packed=$(gzip -c /tmp/first | wc -c)
    if [ "$packed" -gt 65000 ]; then good "entropy: 64 KiB, packed $packed bytes"; else bad "64 KiB of entropy are packed to $packed bytes"; fi
}

devices() {
    for kind in "$@"; do
        case $kind in
            net) id=0x0001 ;;
            block) id=0x0002 ;;
            console) id=0x0003 ;;
            rng) id=0x0004 ;;
            balloon) id=0x0005 ;;
            vsock) id=0x0013 ;;
        esac
        found=
        for device in /sys/bus/virtio/devices/*; do
            if [ "$(cat "$device/device" 2>/dev/null)" = $id ] && [ -e "$device/driver" ]; then found=${device##*/}; fi
        done
        if [ -n "$found" ]; then good "$kind: $found, features $(cat "/sys/bus/virtio/devices/$found/features")"; else bad "no $kind with a driver"; fi
    done
}

for test in $(echo "$asked" | tr '+' ' '); do
    words=$(echo "$test" | tr ':' ' ')
    case ${words%% *} in
        tolerant) ;;
        devices | disk | fsx | verify | fio | flood | ledger | journal | latency | net | uplink | vsock | entropy) $words ;;
        *) bad "there is no test $test" ;;
    esac
done
found=$(dmesg | grep -E 'WARNING:|BUG|Oops|Call trace|Internal error|Unhandled|soft lockup|hung task|EXT4-fs error|I/O error|nobody cared' | head -n 3)
case $asked in
    *tolerant*) ;;
    *) [ -z "$found" ] || bad "dmesg: $found" ;;
esac
if [ -z "$failed" ]; then
    echo "selftest: ok"
else
    echo "selftest: FAILED: $failed" | tr '\n' ' '
    echo
    exit 1
fi
