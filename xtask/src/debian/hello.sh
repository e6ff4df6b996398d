#!/bin/busybox sh
# The first and only process: say what this machine looks like from user space, then power it off through PSCI.
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b echo "hello from user space"
$b uname -a
$b echo "CPUs: $($b nproc) online, $($b grep -c ^processor /proc/cpuinfo) in /proc/cpuinfo"
$b grep -E 'CPU0|arch_timer|uart|IPI[01]:' /proc/interrupts
$b echo "goodbye from user space"
$b poweroff -f
