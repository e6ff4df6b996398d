//! The guest's device tree: QEMU's `virt`, less what is not there.
//!
//! Bindings: Linux `Documentation/devicetree/bindings` (arm,gic-v3; arm,arch_timer; arm,psci; arm,pl011).

use configs_plan::RAM_BASE;
use vm_fdt::{Error, FdtWriter};

use crate::board;

/// What a device tree is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine<'c> {
    pub(crate) name: &'c str,
    pub(crate) memory: u64,
    pub(crate) lanes: u32,
    pub(crate) cmdline: &'c str,
    /// First address and length of the initial RAM disk.
    pub(crate) initrd: Option<(u64, u64)>,
}

const PHANDLE_GIC: u32 = 1;
const PHANDLE_CLOCK: u32 = 2;
/// Interrupt cells: shared or private, number, flags.
const SPI: u32 = 0;
const PPI: u32 = 1;
const LEVEL_HIGH: u32 = 4;

/// Writes the device tree. Its length does not depend on where the initrd lies.
pub(crate) fn write(machine: &Machine<'_>) -> Result<Vec<u8>, Error> {
    let mut fdt = FdtWriter::new()?;
    let root = fdt.begin_node("")?;
    fdt.property_string("compatible", "linux,dummy-virt")?;
    fdt.property_string("model", "XDV guest")?;
    fdt.property_u32("#address-cells", 2)?;
    fdt.property_u32("#size-cells", 2)?;
    fdt.property_u32("interrupt-parent", PHANDLE_GIC)?;

    let uart = format!("pl011@{:x}", board::UART.start);
    let aliases = fdt.begin_node("aliases")?;
    fdt.property_string("serial0", &format!("/{uart}"))?;
    fdt.end_node(aliases)?;

    let chosen = fdt.begin_node("chosen")?;
    fdt.property_string("stdout-path", &format!("/{uart}"))?;
    // What the machine file calls the guest, for kernels that want to say who they are.
    fdt.property_string("xdv,guest-name", machine.name)?;
    if !machine.cmdline.is_empty() {
        fdt.property_string("bootargs", machine.cmdline)?;
    }
    if let Some((start, length)) = machine.initrd {
        fdt.property_u64("linux,initrd-start", start)?;
        fdt.property_u64("linux,initrd-end", start.saturating_add(length))?;
    }
    fdt.end_node(chosen)?;

    let memory = fdt.begin_node(&format!("memory@{RAM_BASE:x}"))?;
    fdt.property_string("device_type", "memory")?;
    fdt.property_array_u64("reg", &[RAM_BASE, machine.memory])?;
    fdt.end_node(memory)?;

    cpus(&mut fdt, machine.lanes)?;
    fixed_devices(&mut fdt, machine.lanes, &uart)?;
    fdt.end_node(root)?;
    fdt.finish()
}

fn cpus(fdt: &mut FdtWriter, lanes: u32) -> Result<(), Error> {
    let cpus = fdt.begin_node("cpus")?;
    fdt.property_u32("#address-cells", 1)?;
    fdt.property_u32("#size-cells", 0)?;
    for lane in 0..lanes {
        // A lane's MPIDR is its number: Aff0, since there are at most eight.
        let cpu = fdt.begin_node(&format!("cpu@{lane:x}"))?;
        fdt.property_string("device_type", "cpu")?;
        fdt.property_string("compatible", "arm,armv8")?;
        fdt.property_u32("reg", lane)?;
        fdt.property_string("enable-method", "psci")?;
        fdt.end_node(cpu)?;
    }
    fdt.end_node(cpus)
}

fn fixed_devices(fdt: &mut FdtWriter, lanes: u32, uart: &str) -> Result<(), Error> {
    let psci = fdt.begin_node("psci")?;
    fdt.property_string_list(
        "compatible",
        vec!["arm,psci-1.0".to_owned(), "arm,psci-0.2".to_owned()],
    )?;
    fdt.property_string("method", "hvc")?;
    fdt.end_node(psci)?;

    let timer = fdt.begin_node("timer")?;
    fdt.property_string("compatible", "arm,armv8-timer")?;
    fdt.property_null("always-on")?;
    let interrupts: Vec<u32> = board::TIMER_PPIS
        .iter()
        .flat_map(|ppi| [PPI, *ppi, LEVEL_HIGH])
        .collect();
    fdt.property_array_u32("interrupts", &interrupts)?;
    fdt.end_node(timer)?;

    let gicr = board::gicr(u64::from(lanes));
    let gic = fdt.begin_node(&format!("intc@{:x}", board::GICD.start))?;
    fdt.property_string("compatible", "arm,gic-v3")?;
    fdt.property_null("interrupt-controller")?;
    fdt.property_u32("#interrupt-cells", 3)?;
    fdt.property_u32("#address-cells", 0)?;
    fdt.property_u32("#redistributor-regions", 1)?;
    fdt.property_array_u64(
        "reg",
        &[board::GICD.start, board::GICD.size, gicr.start, gicr.size],
    )?;
    fdt.property_phandle(PHANDLE_GIC)?;
    fdt.end_node(gic)?;

    let clock = fdt.begin_node("apb-pclk")?;
    fdt.property_string("compatible", "fixed-clock")?;
    fdt.property_u32("#clock-cells", 0)?;
    fdt.property_u32("clock-frequency", 24_000_000)?;
    fdt.property_string("clock-output-names", "clk24mhz")?;
    fdt.property_phandle(PHANDLE_CLOCK)?;
    fdt.end_node(clock)?;

    let pl011 = fdt.begin_node(uart)?;
    fdt.property_string_list(
        "compatible",
        vec!["arm,pl011".to_owned(), "arm,primecell".to_owned()],
    )?;
    fdt.property_array_u64("reg", &[board::UART.start, board::UART.size])?;
    fdt.property_array_u32("interrupts", &[SPI, board::UART_SPI, LEVEL_HIGH])?;
    fdt.property_array_u32("clocks", &[PHANDLE_CLOCK, PHANDLE_CLOCK])?;
    fdt.property_string_list(
        "clock-names",
        vec!["uartclk".to_owned(), "apb_pclk".to_owned()],
    )?;
    fdt.end_node(pl011)
}
