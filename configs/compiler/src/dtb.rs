//! The guest's device tree: QEMU's `virt`, less what is not there.
//!
//! Bindings: Linux `Documentation/devicetree/bindings` (arm,gic-v3; arm,arch_timer; arm,psci; arm,pl011; arm,pl031;
//! virtio,mmio; mtd-physmap; qemu,fw-cfg-mmio) and `Documentation/devicetree/usage-model`; `/chosen` is the Devicetree Specification's and
//! `dt-schema`'s `chosen.yaml`.

use configs_plan::RAM_BASE;
use vm_fdt::{Error, FdtWriter};

use crate::board;
use crate::devices::Given;
use crate::environment::Seeds;

/// What a device tree is made from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Machine<'c> {
    pub(crate) name: &'c str,
    pub(crate) memory: u64,
    pub(crate) lanes: u32,
    pub(crate) cmdline: &'c str,
    /// First address and length of the initial RAM disk.
    pub(crate) initrd: Option<(u64, u64)>,
    pub(crate) seeds: Option<Seeds>,
    /// With what firmware finds: flash for its variables, and fw_cfg.
    pub(crate) firmware: bool,
    /// Give a phandle to every node with a label, for an overlay to refer to.
    pub(crate) labels: bool,
    /// The devices of the machine that the guest is given.
    pub(crate) devices: &'c [Given],
}

/// A device tree, and its nodes with labels: label, path.
#[derive(Debug)]
pub(crate) struct Written {
    pub(crate) bytes: Vec<u8>,
    pub(crate) labels: Vec<(String, String)>,
}

const PHANDLE_GIC: u32 = 1;
const PHANDLE_CLOCK: u32 = 2;
/// The first of the clocks that only given devices have.
const PHANDLE_CLOCKS: u32 = 256;
/// The clock of the emulated devices.
const CLOCK_HZ: u32 = 24_000_000;
/// The first of those that only overlays need.
const PHANDLE_LABELS: u32 = 16;
/// Interrupt cells: shared or private, number, flags.
const SPI: u32 = 0;
const PPI: u32 = 1;
const EDGE_RISING: u32 = 1;
const LEVEL_HIGH: u32 = 4;
/// What PSCI 0.1 knew only from the device tree (DEN0022 5.1): the numbers of later versions.
const PSCI_0_1: [(&str, u32); 3] = [
    ("cpu_suspend", 0xC400_0001),
    ("cpu_off", 0x8400_0002),
    ("cpu_on", 0xC400_0003),
];

/// The writer, and the labels of what was written.
struct Writer {
    fdt: FdtWriter,
    labels: Vec<(String, String)>,
    phandles: bool,
}

/// Writes the device tree. Its length does not depend on where the initrd lies.
pub(crate) fn write(machine: &Machine<'_>) -> Result<Written, Error> {
    let mut writer = Writer {
        fdt: FdtWriter::new()?,
        labels: Vec::new(),
        phandles: machine.labels,
    };
    let fdt = &mut writer.fdt;
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
    chosen(fdt, machine, &uart)?;

    let memory = fdt.begin_node(&format!("memory@{RAM_BASE:x}"))?;
    fdt.property_string("device_type", "memory")?;
    fdt.property_array_u64("reg", &[RAM_BASE, machine.memory])?;
    fdt.end_node(memory)?;

    writer.cpus(machine.lanes)?;
    writer.architecture(machine.lanes)?;
    writer.clock()?;
    writer.uart(&uart)?;
    if !machine.devices.iter().any(Given::is_rtc) {
        writer.rtc()?;
    }
    writer.virtio()?;
    writer.given(machine.devices)?;
    if machine.firmware {
        writer.firmware()?;
    }
    writer.fdt.end_node(root)?;
    Ok(Written {
        bytes: writer.fdt.finish()?,
        labels: writer.labels,
    })
}

fn chosen(fdt: &mut FdtWriter, machine: &Machine<'_>, uart: &str) -> Result<(), Error> {
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
    if let Some(seeds) = machine.seeds {
        fdt.property_u64("kaslr-seed", seeds.kaslr)?;
        fdt.property("rng-seed", &seeds.rng)?;
    }
    fdt.end_node(chosen)
}

impl Writer {
    /// Labels the node that is being written, whose properties are not over.
    fn label(&mut self, label: String, path: String) -> Result<(), Error> {
        let number = u32::try_from(self.labels.len()).unwrap_or(u32::MAX);
        self.labels.push((label, path));
        if self.phandles {
            let phandle = PHANDLE_LABELS.saturating_add(number);
            self.fdt.property_phandle(phandle)?;
        }
        Ok(())
    }

    fn cpus(&mut self, lanes: u32) -> Result<(), Error> {
        let cpus = self.fdt.begin_node("cpus")?;
        self.fdt.property_u32("#address-cells", 1)?;
        self.fdt.property_u32("#size-cells", 0)?;
        for lane in 0..lanes {
            // A lane's MPIDR is its number: Aff0, since there are at most eight.
            let name = format!("cpu@{lane:x}");
            let cpu = self.fdt.begin_node(&name)?;
            self.fdt.property_string("device_type", "cpu")?;
            self.fdt.property_string("compatible", "arm,armv8")?;
            self.fdt.property_u32("reg", lane)?;
            self.fdt.property_string("enable-method", "psci")?;
            self.label(format!("cpu{lane}"), format!("/cpus/{name}"))?;
            self.fdt.end_node(cpu)?;
        }
        self.fdt.end_node(cpus)
    }

    /// What belongs to the architecture: PSCI, the timer, the interrupt controller.
    fn architecture(&mut self, lanes: u32) -> Result<(), Error> {
        let fdt = &mut self.fdt;
        let psci = fdt.begin_node("psci")?;
        fdt.property_string_list(
            "compatible",
            texts(["arm,psci-1.0", "arm,psci-0.2", "arm,psci"]),
        )?;
        fdt.property_string("method", "hvc")?;
        for (function, number) in PSCI_0_1 {
            fdt.property_u32(function, number)?;
        }
        fdt.end_node(psci)?;

        let timer = fdt.begin_node("timer")?;
        fdt.property_string_list("compatible", texts(["arm,armv8-timer", "arm,armv7-timer"]))?;
        fdt.property_null("always-on")?;
        let interrupts: Vec<u32> = board::TIMER_PPIS
            .iter()
            .flat_map(|ppi| [PPI, *ppi, LEVEL_HIGH])
            .collect();
        fdt.property_array_u32("interrupts", &interrupts)?;
        fdt.end_node(timer)?;

        let gicr = board::gicr(u64::from(lanes));
        let name = format!("intc@{:x}", board::GICD.start);
        let gic = fdt.begin_node(&name)?;
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
        self.note("gic", &name);
        Ok(())
    }

    /// Labels a node that has a phandle anyway.
    fn note(&mut self, label: &str, name: &str) {
        self.labels.push((label.to_owned(), format!("/{name}")));
    }

    fn clock(&mut self) -> Result<(), Error> {
        let fdt = &mut self.fdt;
        let clock = fdt.begin_node("apb-pclk")?;
        fdt.property_string("compatible", "fixed-clock")?;
        fdt.property_u32("#clock-cells", 0)?;
        fdt.property_u32("clock-frequency", CLOCK_HZ)?;
        fdt.property_string("clock-output-names", "clk24mhz")?;
        fdt.property_phandle(PHANDLE_CLOCK)?;
        fdt.end_node(clock)?;
        self.note("apb_pclk", "apb-pclk");
        Ok(())
    }

    fn uart(&mut self, name: &str) -> Result<(), Error> {
        let fdt = &mut self.fdt;
        let node = fdt.begin_node(name)?;
        fdt.property_string_list("compatible", texts(["arm,pl011", "arm,primecell"]))?;
        fdt.property_array_u64("reg", &[board::UART.start, board::UART.size])?;
        fdt.property_array_u32("interrupts", &[SPI, board::UART_SPI, LEVEL_HIGH])?;
        fdt.property_array_u32("clocks", &[PHANDLE_CLOCK, PHANDLE_CLOCK])?;
        fdt.property_string_list("clock-names", texts(["uartclk", "apb_pclk"]))?;
        self.label("uart0".to_owned(), format!("/{name}"))?;
        self.fdt.end_node(node)
    }

    fn rtc(&mut self) -> Result<(), Error> {
        let name = format!("pl031@{:x}", board::RTC.start);
        let fdt = &mut self.fdt;
        let node = fdt.begin_node(&name)?;
        fdt.property_string_list("compatible", texts(["arm,pl031", "arm,primecell"]))?;
        fdt.property_array_u64("reg", &[board::RTC.start, board::RTC.size])?;
        fdt.property_array_u32("interrupts", &[SPI, board::RTC_SPI, LEVEL_HIGH])?;
        fdt.property_u32("clocks", PHANDLE_CLOCK)?;
        fdt.property_string("clock-names", "apb_pclk")?;
        self.label("rtc0".to_owned(), format!("/{name}"))?;
        self.fdt.end_node(node)
    }

    /// What only firmware has a use for.
    fn firmware(&mut self) -> Result<(), Error> {
        let name = format!("flash@{:x}", board::VARIABLES.start);
        let node = self.fdt.begin_node(&name)?;
        self.fdt.property_string("compatible", "cfi-flash")?;
        let reg = [board::VARIABLES.start, board::VARIABLES.size];
        self.fdt.property_array_u64("reg", &reg)?;
        self.fdt.property_u32("bank-width", 4)?;
        self.label("flash0".to_owned(), format!("/{name}"))?;
        self.fdt.end_node(node)?;

        let name = format!("fw-cfg@{:x}", board::FW_CFG.start);
        let node = self.fdt.begin_node(&name)?;
        self.fdt.property_string("compatible", "qemu,fw-cfg-mmio")?;
        let reg = [board::FW_CFG.start, board::FW_CFG.size];
        self.fdt.property_array_u64("reg", &reg)?;
        self.label("fw_cfg0".to_owned(), format!("/{name}"))?;
        self.fdt.end_node(node)
    }

    fn virtio(&mut self) -> Result<(), Error> {
        let starts = (board::VIRTIO.start..)
            .step_by(usize::try_from(board::VIRTIO_STRIDE).unwrap_or(usize::MAX));
        for (slot, start) in (0..board::VIRTIO_SLOTS).zip(starts) {
            let name = format!("virtio_mmio@{start:x}");
            let fdt = &mut self.fdt;
            let node = fdt.begin_node(&name)?;
            fdt.property_string("compatible", "virtio,mmio")?;
            fdt.property_array_u64("reg", &[start, board::VIRTIO_STRIDE])?;
            let spi = board::VIRTIO_SPI.saturating_add(slot);
            fdt.property_array_u32("interrupts", &[SPI, spi, EDGE_RISING])?;
            fdt.property_null("dma-coherent")?;
            self.label(format!("virtio{slot}"), format!("/{name}"))?;
            self.fdt.end_node(node)?;
        }
        Ok(())
    }
}

impl Writer {
    /// The devices of the machine, as the machine's own tree has them but for their places.
    fn given(&mut self, devices: &[Given]) -> Result<(), Error> {
        let mut clocks = vec![(CLOCK_HZ, PHANDLE_CLOCK)];
        let mut on_bus = 0u32..;
        for device in devices {
            let mut phandles = Vec::new();
            for hertz in &device.clocks {
                phandles.push(self.fixed_clock(*hertz, &mut clocks)?);
            }
            let name = format!("{}@{:x}", device.name, device.plan.ipa);
            let node = self.fdt.begin_node(&name)?;
            for (property, value) in &device.carried {
                self.fdt.property(property, value)?;
            }
            let reg = [device.plan.ipa, device.plan.size];
            self.fdt.property_array_u64("reg", &reg)?;
            if let Some(spi) = device.plan.intid.and_then(|intid| intid.checked_sub(32)) {
                let flags = if device.edge { EDGE_RISING } else { LEVEL_HIGH };
                self.fdt
                    .property_array_u32("interrupts", &[SPI, spi, flags])?;
                self.fdt.property_u32("interrupt-parent", PHANDLE_GIC)?;
            }
            if !phandles.is_empty() {
                self.fdt.property_array_u32("clocks", &phandles)?;
            }
            let label = if device.is_rtc() {
                "rtc0".to_owned()
            } else {
                format!("device{}", on_bus.next().unwrap_or(0))
            };
            self.label(label, format!("/{name}"))?;
            self.fdt.end_node(node)?;
        }
        Ok(())
    }

    /// The clock of this frequency, made if there is none yet.
    fn fixed_clock(&mut self, hertz: u32, known: &mut Vec<(u32, u32)>) -> Result<u32, Error> {
        if let Some((_, phandle)) = known.iter().find(|(known, _)| *known == hertz) {
            return Ok(*phandle);
        }
        let number = u32::try_from(known.len()).unwrap_or(0);
        let phandle = PHANDLE_CLOCKS.saturating_add(number);
        let node = self.fdt.begin_node(&format!("clock-{hertz}"))?;
        self.fdt.property_string("compatible", "fixed-clock")?;
        self.fdt.property_u32("#clock-cells", 0)?;
        self.fdt.property_u32("clock-frequency", hertz)?;
        self.fdt.property_phandle(phandle)?;
        self.fdt.end_node(node)?;
        known.push((hertz, phandle));
        Ok(phandle)
    }
}

fn texts<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.into_iter().map(str::to_owned).collect()
}
