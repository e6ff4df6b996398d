//! Firmware: where it lies, and what its device tree has that no other guest's has.
#![forbid(unsafe_code)]
#![expect(
    clippy::expect_used,
    reason = "the helpers of a test fail by panicking"
)]

mod fixtures;

use configs_compiler::{Compiled, RunOptions, compile};
use configs_plan::Plan;
use dtoolkit::fdt::Fdt;
use dtoolkit::{Node, Property as _};
use fixtures::Fixtures;

fn compiled(more: &str) -> Compiled {
    let text = format!("[[guest]]\nname = \"fw\"\nmemory = \"64M\"\nlanes = 1\n{more}");
    let (environment, options) = (Fixtures::default(), RunOptions::default());
    compile("test.toml", text.as_bytes(), &environment, &options).expect("it is valid")
}

fn tree(compiled: &Compiled) -> Fdt<'_> {
    let file = compiled.files().iter().find(|file| file.name == "fw/dtb");
    Fdt::new(&file.expect("it is there").data).expect("it is a device tree")
}

fn value(tree: &Fdt<'_>, node: &str, property: &str) -> Vec<u8> {
    let node = tree.find_node(node).expect(node);
    node.property(property).expect(property).value().to_vec()
}

/// Two cells each.
fn numbers(numbers: &[u64]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_be_bytes()).collect()
}

/// What is built in as firmware needs no word for it; a file does.
#[test]
fn firmware_lies_in_flash_and_finds_its_devices_in_the_device_tree() {
    for more in [
        "kernel = \"u-boot\"",
        "kernel = \"notes.txt\"\nformat = \"firmware\"",
    ] {
        let compiled = compiled(more);
        let plan = Plan::decode(compiled.plan()).expect("it is a plan");
        let guest = plan.guests().next().expect("there is one");
        assert_eq!((guest.entry(), guest.flash().is_some()), (0, true));
        assert_eq!(guest.dtb(), configs_plan::RAM_BASE);
        let tree = tree(&compiled);
        let flash = "/flash@4000000";
        assert_eq!(value(&tree, flash, "compatible"), b"cfi-flash\0");
        assert_eq!(
            value(&tree, flash, "reg"),
            numbers(&[0x0400_0000, 0x10_0000])
        );
        assert_eq!(value(&tree, flash, "bank-width"), [0, 0, 0, 4]);
        let fw_cfg = "/fw-cfg@9020000";
        assert_eq!(value(&tree, fw_cfg, "compatible"), b"qemu,fw-cfg-mmio\0");
        assert_eq!(value(&tree, fw_cfg, "reg"), numbers(&[0x0902_0000, 0xa]));
    }
}

#[test]
fn no_other_guest_has_them() {
    for more in [
        "kernel = \"debian\"",
        "kernel = \"notes.txt\"\nformat = \"raw\"",
        // What a person says counts.
        "kernel = \"u-boot\"\nformat = \"raw\"",
    ] {
        let compiled = compiled(more);
        let tree = tree(&compiled);
        for path in ["/flash@4000000", "/fw-cfg@9020000"] {
            assert!(tree.find_node(path).is_none(), "{more}: {path}");
        }
    }
}
