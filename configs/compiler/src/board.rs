//! The machine a guest sees: where QEMU's `virt` has its devices, so that what boots there boots here.

/// One device window of every guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) start: u64,
    pub(crate) size: u64,
    pub(crate) what: &'static str,
}

/// The interrupt controller's distributor.
pub(crate) const GICD: Window = Window {
    start: 0x0800_0000,
    size: 0x1_0000,
    what: "GICv3 distributor",
};
/// The interrupt controller's redistributors, one for each lane.
pub(crate) fn gicr(lanes: u64) -> Window {
    Window {
        start: 0x080A_0000,
        size: lanes.saturating_mul(0x2_0000),
        what: "GICv3 redistributors",
    }
}
/// The console.
pub(crate) const UART: Window = Window {
    start: 0x0900_0000,
    size: 0x1000,
    what: "PL011 console",
};
/// The real-time clock.
pub(crate) const RTC: Window = Window {
    start: 0x0901_0000,
    size: 0x1000,
    what: "PL031 real-time clock",
};
/// The real-time clock's interrupt, as a shared peripheral interrupt.
pub(crate) const RTC_SPI: u32 = 2;
/// How many virtio-mmio slots there are.
pub(crate) const VIRTIO_SLOTS: u32 = 32;
/// Bytes of one slot.
pub(crate) const VIRTIO_STRIDE: u64 = 0x200;
/// The virtio-mmio slots, one behind the other.
pub(crate) const VIRTIO: Window = Window {
    start: 0x0A00_0000,
    size: 0x4000,
    what: "virtio-mmio, 32 empty slots",
};
/// What the slots are where not all are empty.
pub(crate) const VIRTIO_IN_USE: &str = "virtio-mmio, 32 slots";
/// The first slot's interrupt, as a shared peripheral interrupt; the others follow.
pub(crate) const VIRTIO_SPI: u32 = 16;
/// Where a slot is.
pub(crate) fn slot(number: u32) -> u64 {
    let offset = u64::from(number).saturating_mul(VIRTIO_STRIDE);
    VIRTIO.start.saturating_add(offset)
}
/// The flash that firmware keeps its variables in: the second bank of `virt`. The firmware itself is in the first one,
/// which answers no commands and so is no flash to a driver.
pub(crate) const VARIABLES: Window = Window {
    start: 0x0400_0000,
    size: 0x10_0000,
    what: "CFI flash for variables",
};
/// The firmware configuration device: data and selector, no DMA.
pub(crate) const FW_CFG: Window = Window {
    start: 0x0902_0000,
    size: 0xA,
    what: "fw_cfg",
};
// `virt` has more, and these addresses stay free for it: the GIC's ITS at 0x0808_0000, GPIO at 0x0903_0000, PCIe from
// 0x1000_0000 on.

/// Every device window of a guest.
pub(crate) fn windows(lanes: u64, firmware: bool) -> Vec<Window> {
    let mut windows = vec![GICD, gicr(lanes), UART, RTC, VIRTIO];
    if firmware {
        windows.extend([VARIABLES, FW_CFG]);
    }
    windows
}

/// The console's interrupt, as a shared peripheral interrupt.
pub(crate) const UART_SPI: u32 = 1;
/// The generic timer's private interrupts in the order of its binding: secure physical, physical, virtual, hypervisor.
pub(crate) const TIMER_PPIS: [u32; 4] = [13, 14, 11, 10];

#[cfg(test)]
mod tests {
    use super::*;

    /// The device tree, and the machine that EL2 emulates, must be one machine.
    #[test]
    fn the_windows_are_those_of_the_emulated_board() {
        assert_eq!(
            (GICD.start, GICD.size),
            (vcpu_board::GICD_BASE, vcpu_board::GICD_SIZE)
        );
        assert_eq!(
            (gicr(3).start, gicr(3).size),
            (vcpu_board::GICR_BASE, 3 * vcpu_board::GICR_STRIDE)
        );
        assert_eq!(
            (UART.start, UART.size),
            (vcpu_board::PL011_BASE, vcpu_board::PL011_SIZE)
        );
        assert_eq!(UART_SPI + 32, vcpu_board::PL011_SPI);
        assert_eq!(
            (RTC.start, RTC.size, RTC_SPI + 32),
            (
                vcpu_board::PL031_BASE,
                vcpu_board::PL031_SIZE,
                vcpu_board::PL031_SPI
            )
        );
        assert_eq!(
            (
                VIRTIO.start,
                VIRTIO_STRIDE,
                u64::from(VIRTIO_SLOTS),
                VIRTIO_SPI + 32
            ),
            (
                vcpu_board::VIRTIO_BASE,
                vcpu_board::VIRTIO_STRIDE,
                vcpu_board::VIRTIO_SLOTS,
                vcpu_board::VIRTIO_SPI
            )
        );
        assert_eq!(
            (VARIABLES.start, VARIABLES.size),
            (
                vcpu_board::VARIABLES_BASE,
                vcpu_board::flash::VARIABLES_SIZE
            )
        );
        assert_eq!(
            (FW_CFG.start, FW_CFG.size),
            (vcpu_board::FW_CFG_BASE, vcpu_board::FW_CFG_SIZE)
        );
        assert_eq!(VIRTIO.size, VIRTIO_STRIDE * u64::from(VIRTIO_SLOTS));
        assert_eq!(configs_plan::RAM_BASE, vcpu_board::RAM_BASE);
        assert_eq!(configs_plan::MAX_LANES, vcpu_board::MAX_LANES);
    }
}
