#!/bin/busybox sh
# What operations cost: `xdv.bench=` on the kernel's command line says which. Lines are `bench NAME INSTRUCTIONS`.
export PATH=/bin
asked=$(sed -n 's/.*\<xdv\.bench=\([^ ]*\).*/\1/p' /proc/cmdline)
up() {
    ip addr add "$1/24" dev eth0
    ip link set eth0 up
}
case $asked in
    alone)
        probe bench disk /dev/vda
        # The bytes as they are: a line feed would become a write of its own.
        # A terminal forgets that when nobody has it open.
        exec 3<>/dev/hvc0
        for terminal in hvc0 ttyAMA0; do stty -opost </dev/$terminal; done
        probe bench line console_line /dev/hvc0
        probe bench line console_line_pl011 /dev/ttyAMA0
        stty opost </dev/ttyAMA0
        up 10.0.2.15
        # Who is there: the first datagram asks for an address.
        ping -c 2 10.0.2.99 >/dev/null
        probe bench udp udp_rtt_64 10.0.2.99:7
        probe bench stream vsock_rtt_64 vsock:2:7
        ;;
    serve)
        up 10.0.2.16
        probe serve 9000 >/dev/null &
        probe bench answer 9001 &
        while [ ! -e /run/bye ]; do sleep 1; done
        ;;
    ask)
        up 10.0.2.15
        ping -c 2 10.0.2.16 >/dev/null
        probe bench throughput tcp_insn_per_kib 10.0.2.16:9000
        probe bench udp udp_rtt_64_guests 10.0.2.16:9001
        probe bye 10.0.2.16:9000
        ;;
esac
echo "bench done"
