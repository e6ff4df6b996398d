#!/bin/busybox sh
# Load on everything for a while, and how late a timer comes meanwhile. Its last line is the self-test's.
export PATH=/bin
seconds=$(sed -n 's/.*\<xdv\.load=\([0-9]*\).*/\1/p' /proc/cmdline)
seconds=${1:-${seconds:-60}}
echo "load: stress-ng and cyclictest for $seconds s on $(nproc) CPUs"
cyclictest --quiet --mlockall --priority=80 --interval=1000 --threads --affinity --duration="$seconds" >/tmp/late 2>&1 &
failed=
stress-ng --temp-path /tmp --cpu 0 --vm 1 --vm-bytes 64M --verify --pipe 1 --fork 1 --timer 1 --sock 1 --yield 1 \
    --timeout "${seconds}s" --metrics-brief >/tmp/stress 2>&1 || failed="stress-ng ended with code $?"
wait
sed 's/^stress-ng: [a-z]*: *\[[0-9]*\]/load:/' /tmp/stress
sed -n 's/^T:/load: cyclictest in us: T:/p' /tmp/late
grep -q '^T:' /tmp/late || failed="$failed${failed:+; }cyclictest: $(cat /tmp/late)"
found=$(dmesg | grep -E 'WARNING:|BUG|Oops|Call trace|Internal error|Unhandled|stall|soft lockup|hung task' | head -n 3)
[ -z "$found" ] || failed="$failed${failed:+; }dmesg: $found"
if [ -z "$failed" ]; then
    echo "selftest: ok"
else
    echo "selftest: FAILED: $failed" | tr '\n' ' '
    echo
    exit 1
fi
