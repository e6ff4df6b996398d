#!/bin/busybox sh
# What an unmodified Linux can tell of the machine it runs on. The last line is `selftest: ok` or
# `selftest: FAILED: <what>`; `cargo xtask run --headless` waits for it.
export PATH=/bin
failed=
good() { echo "selftest: $*"; }
bad() {
    echo "selftest: not so: $*"
    failed="$failed${failed:+; }$*"
}
same() { # what, seen, wanted
    if [ "$2" = "$3" ]; then good "$1: $2"; else bad "$1: $2 instead of $3"; fi
}
# Big-endian cells of the device tree, from the byte $2, so many bytes, as one number.
cells() { echo $((0x$(od -An -v -tx1 -j "$2" -N "$3" "$1" | tr -d ' \n'))); }
present=$(ls -d /proc/device-tree/cpus/cpu@* | wc -l)
last=$((present - 1))
online() { grep -c ^processor /proc/cpuinfo; }
# The counts of one line of /proc/interrupts, one a CPU.
counts() { awk -v line="$1" -v n="$present" '$0 ~ line { for (i = 2; i < 2 + n; i++) printf "%s ", $i; exit }' /proc/interrupts; }
total() { awk '/IPI[0-9]:/ { for (i = 2; $i ~ /^[0-9]+$/; i++) sum += $i } END { print sum + 0 }' /proc/interrupts; }

cpus() {
    same "CPUs online" "$(online)" "$present"
    for cpu in $(seq 1 $last); do
        switch=/sys/devices/system/cpu/cpu$cpu/online
        echo 0 >$switch || bad "CPU $cpu does not go"
        [ "$(online)" = "$last" ] || bad "with CPU $cpu gone $(online) are online"
        echo 1 >$switch || bad "CPU $cpu does not come back"
        [ "$(online)" = "$present" ] || bad "with CPU $cpu back $(online) are online"
    done
    good "CPUs unplugged and plugged: $last"
}

# The same sum on every CPU, three at a time on each, so that they are switched while they compute.
sums() {
    for cpu in $(seq 0 $last); do
        for turn in 1 2 3; do
            taskset -c "$cpu" awk 'BEGIN { for (i = 1; i <= 20000; i++) s += 1 / (i * i); printf "%.12f\n", s }' &
        done
    done
    wait
}

compute() {
    timers=$(counts arch_timer)
    ipis=$(total)
    seen=$(sums | sort | uniq -c | awk '{ print $1 "x" $2 }')
    same "sums of 20000 fractions" "$seen" "$((3 * present))x1.644884068098"
    quiet=$(echo "$timers $(counts arch_timer)" | awk -v n="$present" '{ for (i = 1; i <= n; i++) if ($(i + n) + 0 <= $i + 0) printf "%d ", i - 1 }')
    same "CPUs without a timer interrupt meanwhile" "${quiet:-none}" none
    if [ "$present" -gt 1 ]; then
        more=$(($(total) - ipis))
        if [ "$more" -gt 0 ]; then good "IPIs meanwhile: some"; else bad "no IPI meanwhile"; fi
    fi
    same "spurious interrupts" "$(awk '/^ *Err:/ { print $2 }' /proc/interrupts)" 0
}

memory() {
    tree=$(ls -d /proc/device-tree/memory@* | head -n 1)
    given=$(cells "$tree/reg" 8 8)
    there=0
    for range in $(awk '/ : System RAM$/ && !/^ / { print $1 }' /proc/iomem); do
        there=$((there + 0x${range#*-} - 0x${range%-*} + 1))
    done
    same "memory in MiB" "$((there >> 20))" "$((given >> 20))"
}

clock() {
    seconds=/sys/class/rtc/rtc0/since_epoch
    [ ! -e $seconds ] || first=$(cat $seconds)
    before=$(awk '{ print int($1 * 10) }' /proc/uptime)
    sleep 1.2
    after=$(awk '{ print int($1 * 10) }' /proc/uptime)
    passed=$((after - before))
    if [ "$passed" -ge 11 ]; then good "time passes"; else bad "1.2 seconds took $passed tenths"; fi
    if [ ! -e $seconds ]; then
        good "clock: none"
    elif [ "$(cat $seconds)" -gt "$first" ]; then
        good "clock: $(date -u -d "@$(cat $seconds)" '+%F %T')"
    else
        bad "the clock stands at $first"
    fi
}

# The clock's alarm comes as an interrupt.
alarm() {
    clock=/sys/class/rtc/rtc0
    rings() { counts 'rtc-pl031' | awk '{ for (i = 1; i <= NF; i++) sum += $i; print sum + 0 }'; }
    if [ ! -e $clock/wakealarm ]; then
        good "alarm: none"
        return
    fi
    before=$(rings)
    # One whose second has come before it is set is not set, and is not there to be read: again then.
    for _ in 1 2 3 4 5; do
        [ "$(rings)" = "$before" ] || break
        echo $(($(cat $clock/since_epoch) + 2)) >$clock/wakealarm
        for _ in $(seq 100); do
            [ "$(rings)" = "$before" ] && [ -n "$(cat $clock/wakealarm)" ] || break
            sleep 0.1
        done
    done
    same "alarm" "$(($(rings) - before))" 1
}

modules() {
    missing=
    for module in $(cat /run/modules 2>/dev/null); do
        [ -d "/sys/module/$module" ] || missing="$missing $module"
    done
    same "modules not loaded" "${missing:-none}" none
    idle=
    for device in /sys/bus/virtio/devices/*; do
        [ ! -e "$device" ] || [ -e "$device/driver" ] || idle="$idle ${device##*/}"
    done
    same "virtio devices without a driver" "${idle:-none}" none
}

words() {
    found=$(dmesg | grep -E 'WARNING:|BUG|Oops|Call trace|Internal error|Unhandled|stall|soft lockup|hung task' | head -n 3)
    if [ -z "$found" ]; then good "dmesg: no complaint"; else bad "dmesg: $found"; fi
}

good "$(uname -a)"
cpus
compute
memory
clock
alarm
modules
words
if [ -z "$failed" ]; then
    echo "selftest: ok"
else
    echo "selftest: FAILED: $failed" | tr '\n' ' '
    echo
    exit 1
fi
