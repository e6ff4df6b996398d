#!/bin/busybox sh
# Load on everything for a while, how late timers come meanwhile, and whether the kernel bore it:
# `load [stress|cyclictest|hotplug|both] [SECONDS]`, or `xdv.load=[WHAT:]SECONDS` on the kernel's command line.
# The last line is the self-test's.
export PATH=/bin
asked=$(sed -n 's/.*\<xdv\.load=\([^ ]*\).*/\1/p' /proc/cmdline)
[ $# = 0 ] || asked=$(echo "$*" | tr ' ' ':')
what=both
seconds=60
for word in $(echo "$asked" | tr ':' ' '); do
    case $word in
        *[!0-9]*) what=$word ;;
        *) seconds=$word ;;
    esac
done
failed=
bad() {
    echo "load: not so: $*"
    failed="$failed${failed:+; }$*"
}
present=$(nproc)
last=$((present - 1))
# Timer interrupts of each CPU; tenths of seconds since boot; what the machine's clock says.
timers() { awk -v n="$present" '/arch_timer/ { for (i = 2; i < 2 + n; i++) printf "%s ", $i; exit }' /proc/interrupts; }
uptime() { awk '{ print int($1 * 10) }' /proc/uptime; }
rtc() { cat /sys/class/rtc/rtc0/since_epoch 2>/dev/null; }

# Everything that has to do with CPUs, memory, time, interrupts and who runs next, and what else is given.
stress() {
    stress-ng --temp-path /tmp --cpu 0 --vm 1 --vm-bytes 16M --mmap 1 --mmap-bytes 32M --hdd 1 --hdd-bytes 16M \
        --fork 1 --switch 1 --futex 1 --timer 1 --timerfd 1 --nanosleep 1 --cache 1 --sigpending 1 --sigsegv 1 --sigq 1 \
        --sem 1 --sem-sysv 1 --pipe 1 --sock 1 --membarrier 1 --yield 1 "$@" \
        --verify --timeout "${seconds}s" --metrics-brief >/tmp/stress 2>&1 || bad "stress-ng ended with code $?"
    sed '/miscellaneous metrics/,/geometic mean/d; /geometic mean/d; s/^stress-ng: [a-z]*: *\[[0-9]*\]/load:/' /tmp/stress
}

# A thread on each CPU that sleeps for a millisecond, and how late it woke.
late() {
    cyclictest --quiet --mlockall --priority=80 --interval=1000 --distance=0 --threads --affinity --histogram=20000 \
        --duration="$seconds" >/tmp/late 2>&1
}
# Its figures in a line for each CPU. To busybox' awk a number that begins with 0 is octal.
figures() {
    awk '
        function number(text) { sub(/^0+/, "", text); return text + 0 }
        function until(cpu, part,    us, sum) {
            for (us = 0; us < 20000; us++) { sum += count[cpu, us]; if (sum >= all[cpu] * part) return us }
            return "over 20000"
        }
        /^[0-9]/ { for (i = 2; i <= NF; i++) if (n = number($i)) { all[i] += n; count[i, number($1)] = n } }
        /^# (Min|Avg|Max) Latencies/ { for (i = 4; i <= NF; i++) figure[$2, i - 2] = number($i); threads = NF - 2 }
        /^# Histogram Overflows/ { for (i = 4; i <= NF; i++) all[i - 2] += number($i) }
        END {
            for (i = 2; i <= threads; i++)
                printf "load: cyclictest on CPU %d, us late: least %d, half %s, 99 %% %s, 99.9 %% %s, most %d, mean %d, of %d\n", i - 2, figure["Min", i], until(i, 0.5), until(i, 0.99), until(i, 0.999), figure["Max", i], figure["Avg", i], all[i]
        }' /tmp/late >/tmp/figures
    cat /tmp/figures
    [ -s /tmp/figures ] || bad "cyclictest: $(tail -n 3 /tmp/late)"
}

# CPUs that go and come back, one after another, until what loads the machine ends.
hotplug() {
    turns=0
    while kill -0 "$1" 2>/dev/null; do
        for cpu in $(seq 1 $last); do
            for state in 0 1; do
                echo $state >/sys/devices/system/cpu/cpu"$cpu"/online 2>/tmp/why || bad "CPU $cpu to $state: $(cat /tmp/why)"
            done
            turns=$((turns + 1))
        done
        [ "$last" -gt 0 ] || break
    done
    echo "load: CPUs unplugged and plugged: $turns"
}

echo "load: $what for $seconds s on $present CPUs"
echo "--- load begins ---" >/dev/kmsg
ticks=$(timers)
from=$(uptime)
began=$(rtc)
case $what in
    stress) stress --affinity 1 ;;
    cyclictest) late ;;
    hotplug)
        stress &
        hotplug $!
        wait $! || bad "stress-ng"
        ;;
    both)
        late &
        stress --affinity 1
        wait
        ;;
    *) bad "there is no load $what" ;;
esac
ended=$(rtc)
passed=$(($(uptime) - from))
[ ! -e /tmp/late ] || figures

# Time: the kernel's clock, the machine's and what was asked for agree.
[ "$passed" -ge $((seconds * 10 - 10)) ] || bad "$seconds s were $passed tenths of the clock"
if [ -n "$began" ]; then
    off=$(((ended - began) * 10 - passed))
    { [ "$off" -ge -20 ] && [ "$off" -le 20 ]; } || bad "the clocks differ by $off tenths of a second"
fi
source=$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource)
[ "$source" = arch_sys_counter ] || bad "the clock source is $source"
# CPUs and interrupts.
[ "$(grep -c ^processor /proc/cpuinfo)" = "$present" ] || bad "$(grep -c ^processor /proc/cpuinfo) CPUs of $present are online"
quiet=$(echo "$ticks $(timers)" | awk -v n="$present" '{ for (i = 1; i <= n; i++) if ($(i + n) <= $i) printf "%d ", i - 1 }')
[ -z "$quiet" ] || bad "no timer interrupt on CPUs $quiet"
err=$(awk '/^ *Err:/ { print $2 }' /proc/interrupts)
[ "$err" = 0 ] || bad "spurious interrupts: $err"
echo "load: $passed tenths of a second passed, timer interrupts a second on each CPU: $(echo "$ticks $(timers)" |
    awk -v n="$present" -v t="$passed" '{ for (i = 1; i <= n; i++) printf "%d ", ($(i + n) - $i) * 10 / (t + 1) }')"
# Whatever the kernel says as a warning or worse, and what it says in other ways. No complaint: that real-time threads may
# not have all of a CPU, that a thread lost a CPU that we unplugged, and how long an interrupt took on a CPU that others
# had meanwhile.
dmesg -r | sed '1,/load begins/d' | grep -E '^<[0-4]>' >/tmp/said
notes='RT throttling|no longer affine|hrtimer: interrupt took'
grep -E "$notes" /tmp/said | sort -u -k 3 | head -n 3 | sed 's/^<[0-9]*>/load: the kernel notes: /'
found=$(grep -vE "$notes" /tmp/said)
words=$(dmesg | grep -E 'WARNING:|BUG|Oops|Call trace|Internal error|Unhandled|stall|soft lockup|hung task|nobody cared|unstable')
found=$(printf '%s\n%s\n' "$found" "$words" | grep . | head -n 3)
[ -z "$found" ] || bad "dmesg: $found"
if [ -z "$failed" ]; then
    echo "selftest: ok"
else
    echo "selftest: FAILED: $failed" | tr '\n' ' '
    echo
    exit 1
fi
