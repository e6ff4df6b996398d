//! BOOT-06: interrupt controller, timer, PSCI, processors, and the serial port.

extern crate std;

use super::build::{Node, good};
use crate::PsciConduit;

const GIC: &str = "intc@8000000";
const UART: &str = "pl011@9000000";

#[test]
fn boot_06_gic() {
    let none = "device tree: arm,gic-v3 is missing: no enabled node is compatible";
    assert_eq!(good().drop(GIC).refusal(), none);
    assert_eq!(
        good().edit(GIC, |n| n.text("status", "disabled")).refusal(),
        none
    );
    let mut second = good().edit(GIC, |n| n).children.swap_remove(2);
    second.name = b"intc@9".to_vec();
    let said = good().child(second.clone()).refusal();
    assert_eq!(said, "device tree: /intc@9: arm,gic-v3 is there twice");
    assert!(
        good()
            .child(second.text("status", "disabled"))
            .read()
            .is_ok()
    );
    let old = good().edit(GIC, |n| n.text("compatible", "arm,gic-400"));
    assert_eq!(
        old.refusal(),
        "device tree: arm,gic-400 is what this machine has; EL2 needs a GICv3"
    );
    let gic = |name: &str, values: &[u32]| good().edit(GIC, |n| n.cells(name, values)).refusal();
    assert!(gic("reg", &[0, 0x800_0000, 0, 0x1_0000]).ends_with("reg has the wrong length 0x10"));
    for count in [0, 9, u32::MAX] {
        let said = gic("#redistributor-regions", &[count]);
        assert!(said.ends_with(&std::format!(
            "#redistributor-regions has the unusable value {count:#x}"
        )));
    }
    assert!(gic("#redistributor-regions", &[2]).ends_with("reg has the wrong length 0x20"));
    assert!(gic("#interrupt-cells", &[2]).contains("#interrupt-cells has the unusable value 0x2"));
    let reg = |d, dl, r, rl| gic("reg", &[0, d, 0, dl, 0, r, 0, rl]);
    assert!(
        reg(0x800_0000, 0x1000, 0x80a_0000, 0x2_0000)
            .ends_with("is too small, of this length: 0x1000")
    );
    assert!(
        reg(0x800_0000, 0x1_0000, 0x80a_0000, 0x1_0000)
            .ends_with("is too small, of this length: 0x10000")
    );
    assert!(reg(0x800_1000, 0x1_0000, 0x80a_0000, 0x2_0000).ends_with("is misaligned: 0x8001000"));
    assert!(
        gic("redistributor-stride", &[0, 0x3_0000])
            .contains("redistributor-stride has the unusable")
    );
}

#[test]
fn redistributors_in_several_ranges() {
    let with = |second: u32| {
        let regs = [0x800_0000, 0x1_0000, 0x80a_0000, 0x4_0000, second, 0x2_0000];
        let reg: std::vec::Vec<u32> = regs.iter().flat_map(|cell| [0, *cell]).collect();
        good().edit(GIC, |n| {
            n.cells("reg", &reg).cells("#redistributor-regions", &[2])
        })
    };
    assert_eq!(with(0x80e_0000).read().unwrap().gicr.len(), 2);
    let said = with(0x80c_0000).refusal();
    let wanted = "a redistributor overlaps RAM or another device at 0x80c0000";
    assert!(said.ends_with(wanted), "{said}");
    assert!(
        with(0x800_0000)
            .refusal()
            .ends_with("a redistributor overlaps RAM or another device at 0x8000000")
    );
    assert!(
        with(0x4000_0000)
            .refusal()
            .ends_with("a redistributor overlaps RAM or another device at 0x40000000")
    );
}

#[test]
fn boot_06_timer() {
    let none = "device tree: arm,armv8-timer is missing: no enabled node is compatible";
    assert_eq!(good().drop("timer").refusal(), none);
    let said = |cells: &[u32]| {
        good()
            .edit("timer", |n| n.cells("interrupts", cells))
            .refusal()
    };
    let three = said(&[1, 13, 4, 1, 14, 4, 1, 11, 4]);
    assert_eq!(
        three,
        "device tree: /timer: interrupts has the wrong length 0x24"
    );
    assert!(said(&[1, 13, 4, 1, 14, 4, 1, 11, 4, 1]).contains("wrong length 0x28"));
    assert!(said(&[1, 13, 4, 0, 14, 4, 1, 11, 4, 1, 10, 4]).ends_with("is not a list of PPIs"));
    assert!(said(&[1, 16, 4, 1, 14, 4, 1, 11, 4, 1, 10, 4]).ends_with("the unusable value 0x10"));
    assert!(
        said(&[1, 13, 4, 1, 13, 4, 1, 11, 4, 1, 10, 4])
            .contains("interrupts repeats the value of an earlier one: 0xd")
    );
    let bare = good().edit("timer", |n| n.without("interrupts"));
    assert_eq!(bare.refusal(), "device tree: /timer: interrupts is missing");
    let named = |names| {
        good()
            .edit("timer", |n| n.text("interrupt-names", names))
            .read()
    };
    assert_eq!(
        named("sec-phys\0phys\0virt\0hyp-phys\0hyp-virt"),
        good().read()
    );
    assert!(named("phys\0virt\0hyp-phys\0hyp-virt").is_err());
    let wide = [1, 13, 4, 0, 1, 14, 4, 0, 1, 11, 4, 0, 1, 10, 4, 0];
    let wide = good().edit("timer", |n| n.cells("interrupts", &wide));
    assert_eq!(
        wide.edit(GIC, |n| n.cells("#interrupt-cells", &[4])).read(),
        good().read()
    );
}

#[test]
fn boot_06_psci() {
    let none = "device tree: arm,psci-0.2 is missing: no enabled node is compatible";
    assert_eq!(good().drop("psci").refusal(), none);
    assert_eq!(
        good().edit("psci", |n| n.text("status", "fail")).refusal(),
        none
    );
    let old = good()
        .edit("psci", |n| n.text("compatible", "arm,psci"))
        .refusal();
    assert_eq!(
        old,
        "device tree: arm,psci is what this machine has; EL2 needs PSCI 0.2 or newer"
    );
    let method = |text| good().edit("psci", |n| n.text("method", text));
    assert_eq!(method("hvc").read().unwrap().psci, PsciConduit::Hvc);
    assert_eq!(
        method("svc").refusal(),
        "device tree: /psci: method is not smc or hvc"
    );
    let bare = good().edit("psci", |n| n.without("method")).refusal();
    assert_eq!(bare, "device tree: /psci: method is missing");
    let again = Node::new("psci2")
        .text("compatible", "arm,psci-0.2")
        .text("method", "smc");
    assert_eq!(
        good().child(again).refusal(),
        "device tree: /psci2: arm,psci-0.2 is there twice"
    );
}

#[test]
fn boot_06_cpus() {
    let second = |change: fn(Node) -> Node| good().edit("cpus/cpu@1", change);
    let same = second(|n| n.cells("reg", &[0])).refusal();
    assert_eq!(
        same,
        "device tree: /cpus/cpu@1: reg repeats the value of an earlier one: 0x0"
    );
    let mpidr = second(|n| n.cells("reg", &[0x8000_0001])).refusal();
    assert!(mpidr.ends_with("cpu@1: reg has the unusable value 0x80000001"));
    let spin = second(|n| n.text("enable-method", "spin-table")).refusal();
    assert!(spin.ends_with("cpu@1: enable-method is not psci"));
    assert!(
        second(|n| n.cells("reg", &[1, 2]))
            .refusal()
            .contains("one affinity value")
    );
    let off = second(|n| n.text("status", "disabled")).read().unwrap();
    assert_eq!(off.cpus.as_slice(), [0]);
    let wide = |n: Node| n.cells("reg", &[1, 0x0002_0304]);
    let tree = good().edit("cpus", |n| n.drop("cpu@0").cells("#address-cells", &[2]));
    let machine = tree.edit("cpus/cpu@1", wide).read().unwrap();
    assert_eq!(machine.cpus.as_slice(), [0x1_0002_0304]);
    assert_eq!(
        good().drop("cpus").refusal(),
        "device tree: an enabled processor in /cpus is missing"
    );
    let map = good().edit("cpus", |n| {
        n.child(Node::new("cpu-map").child(Node::new("socket0")))
    });
    assert_eq!(map.read(), good().read());
}

#[test]
fn a_serial_port_without_a_usable_interrupt_only_speaks() {
    let irq = |cells: &[u32]| {
        let tree = good().edit(UART, |n| n.cells("interrupts", cells));
        tree.read().unwrap().uart_irq
    };
    assert_eq!(irq(&[0, 1, 4]), Some(33));
    assert_eq!(irq(&[0, 987, 4]), Some(1019));
    assert_eq!(irq(&[0, 0, 4, 0, 5, 4]), Some(32));
    for bad in [
        &[][..],
        &[0],
        &[0, 1],
        &[1, 1, 4],
        &[0, 988, 4],
        &[9, 1, 4],
        &[0, !0, 4],
    ] {
        assert_eq!(irq(bad), None, "{bad:?}");
    }
    let none = good().edit(UART, |n| n.without("interrupts"));
    assert_eq!(none.read().unwrap().uart_irq, None);
}

#[test]
fn the_serial_port_is_the_one_that_chosen_names() {
    let port = |name: &str, base| {
        Node::new(name)
            .text("compatible", "arm,pl011")
            .cells("reg", &[0, base, 0, 0x1000])
    };
    let two = |stdout: &str| {
        let tree = good().child(port("serial@9040000", 0x904_0000));
        let tree = tree.child(Node::new("aliases").text("serial0", "/serial@9040000"));
        tree.edit("chosen", |n| n.text("stdout-path", stdout))
    };
    let at = |tree: Node| tree.read().unwrap().uart.base().raw();
    for path in [
        "/serial@9040000",
        "/serial@9040000:115200n8",
        "/serial",
        "serial0",
        "serial0:9600",
    ] {
        assert_eq!(at(two(path)), 0x904_0000, "{path}");
    }
    for path in [
        "",
        "/",
        "/nowhere",
        "serial1",
        "/serial@9040000/x",
        "/serial@1",
        ":115200",
    ] {
        assert_eq!(at(two(path)), 0x900_0000, "{path}");
    }
    // Only the aliases at the top count.
    let decoy = Node::new("aliases").text("serial0", "/nowhere");
    let mut nested = two("serial0");
    nested.children.insert(0, Node::new("other").child(decoy));
    assert_eq!(at(nested), 0x904_0000);
    let off = two("serial0").edit("serial@9040000", |n| n.text("status", "disabled"));
    assert_eq!(at(off), 0x900_0000);
    assert_eq!(at(good().drop("chosen")), 0x900_0000);
    let none = "device tree: arm,pl011 is missing: no enabled node is compatible";
    assert_eq!(good().drop(UART).refusal(), none);
    // A device on a bus that is off is off.
    let bus = Node::new("bus")
        .raw("ranges", &[])
        .text("status", "disabled");
    assert_eq!(
        good()
            .drop(UART)
            .child(bus.child(port("serial@1", 0x1000)))
            .refusal(),
        none
    );
    let open = good().edit("chosen", |n| n.raw("stdout-path", b"/pl011@9000000"));
    assert_eq!(
        open.refusal(),
        "device tree: /chosen: stdout-path is a string without an end"
    );
}
