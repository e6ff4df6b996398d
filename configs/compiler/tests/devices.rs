//! What a guest that is given devices of the machine finds in its device tree, and EL2 in its plan.
#![forbid(unsafe_code)]
#![expect(
    clippy::expect_used,
    reason = "the helpers of a test fail by panicking"
)]

mod fixtures;
mod reading;

use configs_plan::Plan;
use dtoolkit::Node;
use dtoolkit::fdt::Fdt;
use reading::{cells, compiled, file, texts};

/// A property's cells, or none.
fn cells_if_any(fdt: &Fdt<'_>, node: &str, property: &str) -> Option<Vec<u32>> {
    fdt.find_node(node)?.property(property)?;
    Some(cells(fdt, node, property))
}

#[test]
fn a_device_of_the_machine_has_its_node_and_no_other() {
    const DEVICES: &str = include_str!("accepted/devices.toml");
    let compiled = compiled(DEVICES);
    let alpha = Fdt::new(file(&compiled, "alpha/dtb")).expect("it is a device tree");
    let rtc = "/pl031@9010000";
    assert_eq!(
        texts(&alpha, rtc, "compatible"),
        ["arm,pl031", "arm,primecell"]
    );
    assert_eq!(cells(&alpha, rtc, "reg"), [0, 0x901_0000, 0, 0x1000]);
    assert_eq!(cells(&alpha, rtc, "interrupts"), [0, 2, 4]);
    assert_eq!(texts(&alpha, rtc, "clock-names"), ["apb_pclk"]);
    let clock = cells(&alpha, "/apb-pclk", "phandle");
    assert_eq!(cells(&alpha, rtc, "clocks"), clock);
    assert!(alpha.find_node("/pl061@c000000").is_none());
    let clocks = |fdt: &Fdt<'_>| {
        let nodes = fdt.root().children();
        nodes
            .filter(|n| n.name_without_address() == "pl031")
            .count()
    };
    assert_eq!(clocks(&alpha), 1);

    let beta = Fdt::new(file(&compiled, "beta/dtb")).expect("it is a device tree");
    assert_eq!(clocks(&beta), 1, "its emulated one");
    let gpio = "/pl061@c000000";
    assert_eq!(cells(&beta, gpio, "reg"), [0, 0xC00_0000, 0, 0x1000]);
    assert_eq!(cells(&beta, gpio, "interrupts"), [0, 48, 4]);
    assert_eq!(cells(&beta, gpio, "#gpio-cells"), [2]);
    assert!(cells_if_any(&beta, gpio, "phandle").is_none());

    let plan = Plan::decode(compiled.plan()).expect("it is valid");
    let given: Vec<_> = plan
        .guests()
        .flat_map(|guest| guest.devices())
        .map(|device| (device.host, device.ipa, device.intid))
        .collect();
    let rtc = (0x901_0000, 0x901_0000, Some(34));
    assert_eq!(given, [rtc, (0x903_0000, 0xC00_0000, Some(80))]);
}

#[test]
fn devices_behind_a_bus_are_where_the_cpus_see_them() {
    const DEVICES: &str = include_str!("accepted/devices-board.toml");
    let compiled = compiled(DEVICES);
    let fdt = Fdt::new(file(&compiled, "alpha/dtb")).expect("it is a device tree");
    let plan = Plan::decode(compiled.plan()).expect("it is valid");
    let given: Vec<_> = plan.guests().next().expect("alpha").devices().collect();
    let hosts: Vec<_> = given.iter().map(|device| device.host).collect();
    assert_eq!(hosts, [0x4011_0000, 0x4010_1000, 0x4012_8000, 0x4011_1000]);
    // An edge stays one. No interrupt, none.
    assert_eq!(cells(&fdt, "/rtc@9010000", "interrupts"), [0, 2, 1]);
    assert_eq!(cells(&fdt, "/serial@c000000", "interrupts"), [0, 48, 4]);
    assert_eq!(cells_if_any(&fdt, "/gpio@c001000", "interrupts"), None);
    assert_eq!(cells(&fdt, "/rtc@c002000", "interrupts"), [0, 50, 4]);
    // Clocks run as fast as in the machine, and are made once.
    assert_eq!(
        cells(&fdt, "/clock-7372800", "clock-frequency"),
        [7_372_800]
    );
    let slow = cells(&fdt, "/clock-7372800", "phandle");
    let fast = cells(&fdt, "/apb-pclk", "phandle");
    assert_eq!(
        cells(&fdt, "/serial@c000000", "clocks"),
        [slow, fast].concat()
    );
    // There is nothing that these could refer to.
    for gone in ["dmas", "dma-names"] {
        assert_eq!(cells_if_any(&fdt, "/serial@c000000", gone), None);
    }
    assert_eq!(texts(&fdt, "/gpio@c001000", "gpio-line-names"), ["led"]);
}
