//! The yardstick: each operation with its limit and what others need for it.
//!
//! Peers were measured on the same rig with the same guest: QEMU 10.0.2, cortex-a57, icount, instructions
//! with loop overhead. `bare` is without any hypervisor; `floor` is a hand-written stub that only saves,
//! forwards and restores, about what the architecture allows; `best` is the best peer.

/// From the first instruction of EL2 to the first of the guest.
pub const BOOT: &str = "el2_entry_to_first_guest";
/// Preparing a MiB of a guest's memory: scrubbing it, and placing what it starts with.
pub const SCRUB: &str = "scrub_per_mib";
/// Bytes of code and constants of the hypervisor.
pub const SIZE: &str = "hypervisor_text_rodata";
/// The same of the one for machines with virtio devices.
pub const SIZE_VIRTIO: &str = "hypervisor_virtio_text_rodata";

/// Linux from its first instruction to that of `/init`, against the same without a hypervisor.
pub const LINUX: &str = "linux_to_init";
/// The same on a lane that shares its CPU.
pub const LINUX_SHARED: &str = "linux_to_init_shared";

/// A ratio of one: ratios count ten-thousandths.
pub const WHOLE: u32 = 10_000;

/// What the figures of a row are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Instructions or bytes.
    Count,
    /// Ten-thousandths of what it is without a hypervisor.
    Ratio,
}

/// What it takes to measure a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// QEMU before 10 measures it the same: it needs neither a second CPU nor an interrupt.
    OneCpu,
    /// QEMU 10.
    Interrupts,
    /// QEMU 10, and Debian's kernel.
    Linux,
    /// The same. The medians of a whole Linux move by more than an exit's cost may grow.
    Virtio,
}

/// One operation of the yardstick.
#[derive(Debug)]
pub struct Row {
    /// Its name, as the bench guest prints it.
    pub name: &'static str,
    /// What XDV may need.
    pub limit: Option<u64>,
    /// What XDV would like to need.
    pub dream: Option<u64>,
    /// Without a hypervisor; the floor; the best peer; Xen 4.17; KVM 6.1 with VHE.
    pub peers: [Option<u64>; 5],
    /// What it takes to measure it.
    pub needs: Needs,
    /// What all these figures are.
    pub unit: Unit,
}

/// A row that QEMU 7.2 measures too.
const fn sync(name: &'static str, limit: u64, dream: u64, peers: [u64; 5]) -> Row {
    row(name, limit, dream, peers, Needs::OneCpu, Unit::Count)
}

/// A row of interrupts.
const fn irq(name: &'static str, limit: u64, dream: u64, peers: [u64; 5]) -> Row {
    row(name, limit, dream, peers, Needs::Interrupts, Unit::Count)
}

/// A row of virtio: an I/O of Linux. Peers: without a hypervisor; a model of a device at EL2; the best peer; KVM with kvmtool.
const fn io(name: &'static str, limit: u64, peers: [u64; 4]) -> Row {
    let [bare, model, best, kvm] = peers;
    let peers = [bare, model, best, NONE, kvm];
    row(name, limit, limit, peers, Needs::Virtio, Unit::Count)
}

/// A row of an access to a virtio slot, by itself. Its peer is the hand-written stub.
const fn slot(name: &'static str, limit: u64, dream: u64, floor: u64) -> Row {
    let peers = [4, floor, NONE, NONE, NONE];
    row(name, limit, dream, peers, Needs::Interrupts, Unit::Count)
}

/// A row of the switch between guests' network cards. Nobody else was measured.
const fn switched(name: &'static str, limit: u64, model: u64) -> Row {
    let peers = [NONE; 5];
    row(name, limit, model, peers, Needs::Interrupts, Unit::Count)
}

/// A row the project adds, without a limit.
const fn extra(name: &'static str, needs: Needs) -> Row {
    Row {
        name,
        limit: None,
        dream: None,
        peers: [None; 5],
        needs,
        unit: Unit::Count,
    }
}

/// No figure in the yardstick.
const NONE: u64 = u64::MAX;

const fn row(
    name: &'static str,
    limit: u64,
    dream: u64,
    peers: [u64; 5],
    needs: Needs,
    unit: Unit,
) -> Row {
    let [bare, floor, best, xen, kvm] = peers;
    Row {
        name,
        limit: Some(limit),
        dream: Some(dream),
        peers: [
            known(bare),
            known(floor),
            known(best),
            known(xen),
            known(kvm),
        ],
        needs,
        unit,
    }
}

const fn known(value: u64) -> Option<u64> {
    if value == NONE { None } else { Some(value) }
}

/// All rows, in the order they are shown.
pub const ROWS: &[Row] = &[
    sync("hvc_psci_version", 80, 60, [8, 54, 160, 478, 1058]),
    sync("smc_psci_version", 85, 65, [8, 59, 134, 508, NONE]),
    sync("hvc_unknown", 95, 70, [8, 58, 160, 1654, 997]),
    sync("sysreg_trapped", 90, 70, [4, NONE, 436, 436, 1421]),
    sync("gicd_typer_read", 110, 80, [4, 66, 228, 615, 1813]),
    extra("gicd_typer_read_x20", Needs::OneCpu),
    extra("declined_read", Needs::OneCpu),
    sync("gicr_typer_read", 115, 85, [4, 65, 270, 616, 1883]),
    sync("gicd_isenabler_write", 140, 95, [4, 63, 716, 755, 1823]),
    sync("uart_emulated_read", 120, 85, [4, NONE, 638, 638, 5315]),
    // Lines of 80 bytes with `\r\n`, which EL2 puts on the real UART; the guest's loop takes the bare column's 128 a byte.
    sync("console_char", 400, 300, [128, NONE, 1746, 1746, 13497]),
    sync("sgi_write", 130, 100, [4, 108, 342, 1099, 2595]),
    irq("sgi_self_roundtrip", 160, 125, [29, 133, 368, 1125, 2605]),
    irq("ipi_spinning_oneway", 250, 195, [16, NONE, 353, 1628, 4146]),
    irq("ipi_wfi_oneway", 250, 195, [16, NONE, 347, 4570, 10314]),
    irq("ipi_wfi_shared", 550, 420, [16, NONE, 4570, 4570, 10314]),
    irq("ipi_wfi_contended", 900, 600, [16, NONE, NONE, NONE, NONE]),
    irq("timer_irq_spinning", 65, 50, [0, 48, 192, 1068, 2420]),
    irq("timer_irq_wfi", 65, 50, [0, 48, 192, 4336, 10189]),
    irq(
        "timer_irq_wfi_shared",
        420,
        320,
        [0, NONE, 4336, 4336, 10189],
    ),
    sync("eoi", 4, 4, [4, 4, 4, 4, 4]),
    sync("cntvct_read", 4, 4, [4, 4, 4, 4, 4]),
    sync("cntv_cval_write", 4, 4, [4, 4, 4, 4, 4]),
    irq(
        "cpu_on_first_instruction",
        400,
        260,
        [16, NONE, 976, 5488, 19061],
    ),
    // What a driver stores and loads for each I/O, of a slot that has nothing to do. The yardstick has 150 for a notification;
    // for InterruptStatus and InterruptACK what other registers of devices have, GICD_TYPER and GICD_ISENABLER, of which these
    // are of a kind: a word that is loaded, and one that is changed.
    slot("virtio_notify", 150, 120, 70),
    extra("virtio_notify_device", Needs::Interrupts),
    slot("virtio_isr_read", 110, 80, 66),
    extra("virtio_isr_read_x20", Needs::Interrupts),
    slot("virtio_ack", 110, 80, 63),
    // A frame from one card of the guest to another, whole: from the notification until the guest goes on, with the frame
    // in the other card's buffer and its interrupt pending. The dream is the model of a device at EL2, which injects nothing.
    switched("switch_frame_64", 1000, 400),
    switched("switch_frame_1514", 1400, 700),
    extra(SCRUB, Needs::OneCpu),
    sync(
        BOOT,
        400_000,
        150_000,
        [NONE, 5_000, 480_000, 23_500_000, NONE],
    ),
    row(
        LINUX,
        10_020,
        10_000,
        [10_000, NONE, 10_000, 10_800, 9_800],
        Needs::Linux,
        Unit::Ratio,
    ),
    row(
        LINUX_SHARED,
        10_020,
        10_000,
        [10_000, NONE, NONE, NONE, NONE],
        Needs::Linux,
        Unit::Ratio,
    ),
    // What an I/O of Linux costs, all of it: the median of a thousand. Without a hypervisor QEMU's own devices are free of
    // charge; 2 000 may be added to that for 4 KiB, and to a datagram's way to the hypervisor's own echo, 16 000 for 64 KiB.
    extra("blk_read_512", Needs::Virtio),
    io("blk_read_4k", 17_800, [15_800, 16_600, 44_900, 59_300]),
    io("blk_write_4k", 22_200, [20_200, 19_800, 48_700, 63_000]),
    io("blk_read_64k", 41_000, [25_000, 37_200, 81_900, 96_100]),
    extra("blk_read_256k", Needs::Virtio),
    io("udp_rtt_64", 15_300, [13_300, 13_700, 51_500, 78_000]),
    io("udp_rtt_64_guests", 33_000, [NONE, NONE, 80_000, 105_000]),
    io("tcp_insn_per_kib", 2000, [NONE, NONE, 3600, 5300]),
    io("vsock_rtt_64", 45_000, [NONE, NONE, 66_000, 96_000]),
    // Lines of 80 bytes: 1 000 more than without a hypervisor, and 16 000.
    io("console_line", 14_900, [13_900, 11_700, 34_000, 34_100]),
    io("console_line_pl011", 22_750, [6750, 17_900, NONE, 800_000]),
    sync(
        SIZE,
        160 << 10,
        96 << 10,
        [NONE, 1 << 10, 93 << 10, 955 << 10, NONE],
    ),
    extra(SIZE_VIRTIO, Needs::Interrupts),
];

/// What an operation carries, in bytes, of those whose cost grows with that.
pub const CARRIES: &[(&str, u32)] = &[
    ("blk_read_512", 512),
    ("blk_read_4k", 4 << 10),
    ("blk_read_64k", 64 << 10),
    ("blk_read_256k", 256 << 10),
    ("switch_frame_64", 64),
    ("switch_frame_1514", 1514),
];

/// A figure of a row for a person to read.
pub fn shown(name: &str, value: u64) -> String {
    match named(name).map_or(Unit::Count, |row| row.unit) {
        Unit::Count => value.to_string(),
        Unit::Ratio => format!("{:.4}", fraction(value)),
    }
}

/// Ten-thousandths as a number.
pub fn fraction(value: u64) -> f64 {
    f64::from(u32::try_from(value).unwrap_or(u32::MAX)) / f64::from(WHOLE)
}

/// The row of that name.
pub fn named(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_dreams_lie_within_limits() {
        for (index, row) in ROWS.iter().enumerate() {
            assert!(
                ROWS.iter()
                    .skip(index + 1)
                    .all(|other| other.name != row.name),
                "{}",
                row.name
            );
            assert!(row.dream <= row.limit, "{}", row.name);
        }
    }
}
