//! Reading the device tree.

use super::{
    Affinity, Conduit, LARGEST_TREE, MAX_VIRTIO, Machine, MachineError, SMALLEST_TREE, VirtioSlot,
};
use crate::addr::{GuestPhys, PhysRange};
use arrayvec::ArrayVec;
use dtoolkit::fdt::{Fdt, FdtNode};
use dtoolkit::standard::NodeStandard;
use dtoolkit::{Node, Property, ToCellInt};

impl<'a> Machine<'a> {
    /// Reads a device tree.
    ///
    /// Devices are looked for among the root's children, where QEMU's `virt` and XDV put them.
    ///
    /// # Errors
    /// When the bytes are no tree, or a part that the kernel cannot do without is missing.
    pub fn from_fdt(bytes: &'a [u8]) -> Result<Self, MachineError> {
        if !(SMALLEST_TREE..=LARGEST_TREE).contains(&bytes.len()) {
            return Err(MachineError::NotADeviceTree);
        }
        let tree = Fdt::new(bytes).map_err(|_| MachineError::NotADeviceTree)?;
        let root = tree.root();
        let [distributor, redistributors] = gic(root)?;
        let (cpus, cpus_left_out) = cpus(tree)?;
        let chosen = tree.find_node("/chosen");
        let mut reserved = ArrayVec::new();
        collect_reserved(tree, chosen, &mut reserved)?;
        Ok(Self {
            name: chosen
                .and_then(|node| text(node, "xdv,guest-name"))
                .unwrap_or("guest"),
            command_line: chosen.and_then(|node| text(node, "bootargs")).unwrap_or(""),
            memory: memory(root)?,
            reserved,
            cpus,
            cpus_left_out,
            distributor,
            redistributors,
            uart: uart(root),
            virtio: virtio(root),
            timer_intid: timer(root)
                .ok_or(MachineError::Missing("the timer's virtual interrupt"))?,
            conduit: conduit(root)?,
            claimed: claimed(root)?,
        })
    }
}

fn text<'a>(node: FdtNode<'a>, name: &str) -> Option<&'a str> {
    let value = node.properties().find(|property| property.name() == name)?;
    value.value_as::<&'a str>().ok()
}

/// One unsigned number of one or two cells.
fn number(node: FdtNode<'_>, name: &str) -> Option<u64> {
    let value = node.property(name)?;
    match *value.value() {
        [a, b, c, d] => Some(u64::from(u32::from_be_bytes([a, b, c, d]))),
        [a, b, c, d, e, f, g, h] => Some(u64::from_be_bytes([a, b, c, d, e, f, g, h])),
        _ => None,
    }
}

/// A node's `reg` ranges that are not empty and do not wrap. With `#size-cells = 0` the sizes are
/// zero, so such nodes have none.
fn ranges<'a>(node: FdtNode<'a>) -> impl Iterator<Item = PhysRange> + 'a {
    node.reg()
        .ok()
        .flatten()
        .into_iter()
        .flatten()
        .filter_map(|reg| {
            let start = GuestPhys::new(reg.address::<u64>().ok()?);
            PhysRange::new(start, reg.size::<u64>().ok()?).filter(|range| !range.is_empty())
        })
}

fn is_enabled(node: FdtNode<'_>) -> bool {
    text(node, "status").is_none_or(|status| status == "okay" || status == "ok")
}

fn compatible<'a>(root: FdtNode<'a>, names: &[&str]) -> Option<FdtNode<'a>> {
    root.children()
        .find(|node| is_enabled(*node) && names.iter().any(|name| node.is_compatible(name)))
}

fn memory(root: FdtNode<'_>) -> Result<ArrayVec<PhysRange, 8>, MachineError> {
    let mut memory = ArrayVec::new();
    for node in root.children() {
        if text(node, "device_type") != Some("memory") || !is_enabled(node) {
            continue;
        }
        for range in ranges(node) {
            memory
                .try_push(range)
                .map_err(|_| MachineError::TooMany("memory ranges"))?;
        }
    }
    if memory.is_empty() {
        return Err(MachineError::Missing("memory"));
    }
    Ok(memory)
}

fn cpus(tree: Fdt<'_>) -> Result<(ArrayVec<Affinity, { crate::MAX_LANES }>, usize), MachineError> {
    let node = tree
        .find_node("/cpus")
        .ok_or(MachineError::Missing("/cpus"))?;
    let mut cpus = ArrayVec::new();
    let mut left_out = 0;
    for cpu in node.children() {
        if text(cpu, "device_type") != Some("cpu") {
            continue;
        }
        let mpidr = cpu
            .reg()
            .ok()
            .flatten()
            .and_then(|mut regs| regs.next()?.address.to_int::<u64>().ok())
            .ok_or(MachineError::Missing("a CPU's reg"))?;
        if cpus.try_push(Affinity::from_mpidr(mpidr)).is_err() {
            left_out += 1;
        }
    }
    if cpus.is_empty() {
        return Err(MachineError::Missing("any CPU"));
    }
    Ok((cpus, left_out))
}

fn gic(root: FdtNode<'_>) -> Result<[PhysRange; 2], MachineError> {
    let missing = MachineError::Missing("a GICv3 (arm,gic-v3)");
    let node = compatible(root, &["arm,gic-v3"]).ok_or(missing)?;
    let mut found = ranges(node);
    match (found.next(), found.next()) {
        (Some(distributor), Some(redistributors)) => Ok([distributor, redistributors]),
        (_, _) => Err(missing),
    }
}

fn uart(root: FdtNode<'_>) -> Option<PhysRange> {
    ranges(compatible(root, &["arm,pl011"])?).next()
}

/// Slots beyond those there is room for are left alone.
fn virtio(root: FdtNode<'_>) -> ArrayVec<VirtioSlot, MAX_VIRTIO> {
    let slot = |node: FdtNode<'_>| {
        let property = node.property("interrupts")?;
        let mut interrupts = property.as_prop_encoded_array([1, 1, 1]).ok()?;
        let [kind, number, _flags] = interrupts.next()?;
        // Binding `arm,gic-v3`: kind 0 is an SPI, counted from INTID 32.
        let number = number.to_int::<u32>().ok()?;
        let is_spi = kind.to_int::<u32>().ok()? == 0 && number < 988;
        let range = ranges(node).next().filter(|_| is_spi)?;
        Some(VirtioSlot {
            range,
            intid: 32 + number,
        })
    };
    let nodes = root.children();
    let slots = nodes.filter(|node| is_enabled(*node) && node.is_compatible("virtio,mmio"));
    let mut found: ArrayVec<_, MAX_VIRTIO> = slots.filter_map(slot).take(MAX_VIRTIO).collect();
    found.sort_unstable_by_key(|slot| slot.range.start());
    found
}

/// The third of the timer's interrupts is the virtual timer's (devicetree binding `arm,armv8-timer`).
fn timer(root: FdtNode<'_>) -> Option<u32> {
    let node = compatible(root, &["arm,armv8-timer", "arm,armv7-timer"])?;
    let property = node.property("interrupts")?;
    let mut interrupts = property.as_prop_encoded_array([1, 1, 1]).ok()?;
    let [kind, number, _flags] = interrupts.nth(2)?;
    // Binding `arm,gic-v3`: kind 1 is a PPI, counted from INTID 16.
    let number = number.to_int::<u32>().ok()?;
    (kind.to_int::<u32>().ok()? == 1 && number < 16).then_some(16 + number)
}

fn conduit(root: FdtNode<'_>) -> Result<Conduit, MachineError> {
    let node = compatible(root, &["arm,psci-1.0", "arm,psci-0.2"])
        .ok_or(MachineError::Missing("PSCI 0.2 or newer"))?;
    match text(node, "method") {
        Some("hvc") => Ok(Conduit::Hvc),
        Some("smc") => Ok(Conduit::Smc),
        _ => Err(MachineError::Missing("PSCI's method")),
    }
}

fn claimed(root: FdtNode<'_>) -> Result<ArrayVec<PhysRange, 64>, MachineError> {
    let mut claimed = ArrayVec::new();
    for node in root.children() {
        for range in ranges(node) {
            claimed
                .try_push(range)
                .map_err(|_| MachineError::TooMany("devices"))?;
        }
    }
    Ok(claimed)
}

fn collect_reserved(
    tree: Fdt<'_>,
    chosen: Option<FdtNode<'_>>,
    reserved: &mut ArrayVec<PhysRange, 16>,
) -> Result<(), MachineError> {
    let header = tree
        .memory_reservations()
        .filter_map(|entry| PhysRange::new(GuestPhys::new(entry.address()), entry.size()));
    let node = tree.find_node("/reserved-memory");
    let children = node
        .into_iter()
        .flat_map(|node| node.children())
        .flat_map(ranges);
    let initrd = chosen.and_then(|node| {
        let start = number(node, "linux,initrd-start")?;
        let end = number(node, "linux,initrd-end")?;
        Some(PhysRange::between(
            GuestPhys::new(start),
            GuestPhys::new(end),
        ))
    });
    for range in header.chain(children).chain(initrd) {
        reserved
            .try_push(range)
            .map_err(|_| MachineError::TooMany("memory reservations"))?;
    }
    Ok(())
}
