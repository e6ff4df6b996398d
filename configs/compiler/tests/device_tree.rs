//! A guest's device tree: what it says of the machine, that QEMU's `virt` says the same, and overlays on it.
#![forbid(unsafe_code)]
#![expect(
    clippy::expect_used,
    reason = "the helpers of a test fail by panicking"
)]

mod fixtures;
mod reading;

use std::collections::BTreeMap;
use std::process::Command;

use configs_compiler::{RunOptions, compile};
use configs_plan::Plan;
use dtoolkit::fdt::Fdt;
use dtoolkit::model::DeviceTree;
use dtoolkit::{Node, Property as _};
use fixtures::build::{node, overlay, overlay_of_label, property};
use fixtures::{Disk, SEEDS};
use proptest::prelude::*;
use reading::{cells, compiled, file, texts};

const LINUX: &str = include_str!("../../linux-hello.toml");
const TWO: &str = include_str!("../../two-guests.toml");

#[test]
fn the_device_tree_describes_the_guest() {
    let compiled = compiled(LINUX);
    let file = compiled
        .files()
        .iter()
        .find(|file| file.name == "hello/dtb")
        .expect("it is there");
    let fdt = Fdt::new(&file.data).expect("it is a device tree");

    assert_eq!(texts(&fdt, "/", "compatible"), ["linux,dummy-virt"]);
    assert_eq!(texts(&fdt, "/chosen", "bootargs"), ["console=ttyAMA0"]);
    assert_eq!(texts(&fdt, "/chosen", "stdout-path"), ["/pl011@9000000"]);
    assert_eq!(texts(&fdt, "/aliases", "serial0"), ["/pl011@9000000"]);
    assert_eq!(
        cells(&fdt, "/memory@40000000", "reg"),
        [0, 0x4000_0000, 0, 256 << 20]
    );
    assert_eq!(
        texts(&fdt, "/psci", "compatible"),
        ["arm,psci-1.0", "arm,psci-0.2", "arm,psci"]
    );
    assert_eq!(texts(&fdt, "/psci", "method"), ["hvc"]);
    assert_eq!(
        cells(&fdt, "/timer", "interrupts"),
        [1, 13, 4, 1, 14, 4, 1, 11, 4, 1, 10, 4]
    );
    assert_eq!(
        cells(&fdt, "/intc@8000000", "reg"),
        [0, 0x800_0000, 0, 0x1_0000, 0, 0x80A_0000, 0, 0x4_0000]
    );
    assert_eq!(
        cells(&fdt, "/intc@8000000", "phandle"),
        cells(&fdt, "/", "interrupt-parent")
    );
    assert_eq!(
        texts(&fdt, "/pl011@9000000", "compatible"),
        ["arm,pl011", "arm,primecell"]
    );
    assert_eq!(cells(&fdt, "/pl011@9000000", "interrupts"), [0, 1, 4]);
    assert_eq!(
        cells(&fdt, "/pl011@9000000", "reg"),
        [0, 0x900_0000, 0, 0x1000]
    );
    assert_eq!(cells(&fdt, "/apb-pclk", "clock-frequency"), [24_000_000]);
    for lane in 0..2u32 {
        assert_eq!(cells(&fdt, &format!("/cpus/cpu@{lane}"), "reg"), [lane]);
        assert_eq!(
            texts(&fdt, &format!("/cpus/cpu@{lane}"), "enable-method"),
            ["psci"]
        );
    }
    assert!(fdt.find_node("/cpus/cpu@2").is_none());
}

#[test]
fn the_device_tree_names_the_initrd() {
    let compiled = compiled(LINUX);
    let plan = Plan::decode(compiled.plan()).expect("EL2 takes it");
    let guest = plan.guests().next().expect("there is one");
    let file = compiled
        .files()
        .iter()
        .find(|file| file.name == "hello/dtb")
        .expect("it is there");
    let fdt = Fdt::new(&file.data).expect("it is a device tree");
    let initrd = guest
        .segments()
        .find(|s| s.file == "hello/initrd")
        .expect("it has one");
    let whole = |property| match cells(&fdt, "/chosen", property).as_slice() {
        [high, low] => u64::from(*high) << 32 | u64::from(*low),
        other => unreachable!("{other:?}"),
    };
    assert_eq!(whole("linux,initrd-start"), initrd.ipa);
    assert_eq!(whole("linux,initrd-end"), initrd.ipa + initrd.len);
    let tree = guest
        .segments()
        .find(|s| s.file == "hello/dtb")
        .expect("it has one");
    assert_eq!(tree.ipa, guest.dtb());
}

#[test]
fn dtc_takes_the_device_tree() {
    let compiled = compiled(TWO);
    let tree = &compiled
        .files()
        .iter()
        .find(|file| file.name == "alpha/dtb")
        .expect("it is there")
        .data;
    let path = std::env::temp_dir().join(format!("configs-compiler-{}.dtb", std::process::id()));
    std::fs::write(&path, tree).expect("a file can be written");
    let output = std::process::Command::new("dtc")
        .args(["-I", "dtb", "-O", "dts"])
        .arg(&path)
        .output();
    std::fs::remove_file(&path).expect("the file can be removed");
    // Not every computer has a `dtc`.
    let Ok(output) = output else { return };
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "no warning");
    assert!(
        !String::from_utf8_lossy(&output.stdout).contains("bootargs"),
        "no command line was given"
    );
}

/// Whatever both describe, they describe alike: what boots on `virt` finds its devices here.
#[test]
fn qemu_s_virt_has_the_same_devices() {
    let path = std::env::temp_dir().join(format!("xdv-virt-{}.dtb", std::process::id()));
    let machine = format!("virt,gic-version=3,dumpdtb={}", path.display());
    let output = Command::new("qemu-system-aarch64")
        .args(["-M", &machine, "-cpu", "max", "-smp", "2", "-m", "256M"])
        .args(["-display", "none", "-nic", "none"])
        .output();
    // Not every computer has QEMU.
    let Ok(output) = output else { return };
    assert!(output.status.success(), "{output:?}");
    let theirs = std::fs::read(&path).expect("it was written");
    std::fs::remove_file(&path).expect("the file can be removed");
    let theirs = Fdt::new(&theirs).expect("it is a device tree");
    let compiled = compiled(LINUX);
    let ours = Fdt::new(file(&compiled, "hello/dtb")).expect("it is a device tree");

    let (theirs, ours) = (described(&theirs), described(&ours));
    let mut shared = 0;
    for (path, ours) in &ours {
        // Older ones have no aliases.
        if path == "/aliases" {
            continue;
        }
        let theirs = theirs.get(path).expect(path);
        shared += 1;
        for (property, ours) in ours {
            let expected = match (path.as_str(), property.as_str()) {
                // It says which CPU it is, where our guests get the machine's; its phandles are other numbers.
                (_, "phandle" | "interrupt-parent" | "clocks") => continue,
                (path, "compatible") if path.starts_with("/cpus/") => continue,
                ("/", "model") | ("/chosen", _) => continue,
                // Our redistributors are as many as the lanes; and there is no ITS below the GIC.
                ("/intc@8000000", "reg") => {
                    assert_eq!(ours[..24], theirs["reg"][..24]);
                    continue;
                }
                ("/intc@8000000", "#address-cells") => continue,
                _ => theirs.get(property),
            };
            assert_eq!(Some(ours), expected, "{path}: {property}");
        }
    }
    assert_eq!(shared, 44, "all nodes of ours but the aliases");
}

type Described = BTreeMap<String, BTreeMap<String, Vec<u8>>>;

/// All nodes of a device tree by path, with their properties.
fn described(fdt: &Fdt<'_>) -> Described {
    fn walk(path: &str, node: &impl Node, into: &mut Described) {
        let properties = node.properties();
        let properties = properties.map(|p| (p.name().to_owned(), p.value().to_vec()));
        let shown = if path.is_empty() { "/" } else { path };
        into.insert(shown.to_owned(), properties.collect());
        for child in node.children() {
            let name = child.name().as_ref().to_owned();
            walk(&format!("{path}/{name}"), &child, into);
        }
    }
    let mut all = Described::new();
    walk("", &fdt.root(), &mut all);
    all
}

#[test]
fn the_clock_and_the_slots_are_where_virt_has_them() {
    let compiled = compiled(LINUX);
    let fdt = Fdt::new(file(&compiled, "hello/dtb")).expect("it is a device tree");
    assert_eq!(
        cells(&fdt, "/pl031@9010000", "reg"),
        [0, 0x901_0000, 0, 0x1000]
    );
    assert_eq!(cells(&fdt, "/pl031@9010000", "interrupts"), [0, 2, 4]);
    for slot in 0..32u32 {
        let path = format!("/virtio_mmio@{:x}", 0xA00_0000 + slot * 0x200);
        assert_eq!(texts(&fdt, &path, "compatible"), ["virtio,mmio"]);
        assert_eq!(
            cells(&fdt, &path, "reg"),
            [0, 0xA00_0000 + slot * 0x200, 0, 0x200]
        );
        assert_eq!(cells(&fdt, &path, "interrupts"), [0, 16 + slot, 1]);
        assert!(cells(&fdt, &path, "dma-coherent").is_empty());
    }
    assert!(fdt.find_node("/virtio_mmio@a004000").is_none());
}

#[test]
fn the_seeds_are_those_of_the_environment() {
    let compiled = compiled(LINUX);
    let fdt = Fdt::new(file(&compiled, "hello/dtb")).expect("it is a device tree");
    let chosen = fdt.find_node("/chosen").expect("it is there");
    let value = |name| chosen.property(name).expect(name).value().to_vec();
    assert_eq!(value("kaslr-seed"), SEEDS.kaslr.to_be_bytes());
    assert_eq!(value("rng-seed"), SEEDS.rng);
    // And from the host's own random numbers, each time others.
    let folder = std::env::temp_dir();
    let host = configs_compiler::HostFiles::new(folder);
    let draw = || configs_compiler::Environment::seeds(&host, "alpha").expect("the host has some");
    assert_ne!(draw(), draw());
    let settled = host.with_seeds(Some(SEEDS));
    assert_eq!(
        configs_compiler::Environment::seeds(&settled, "alpha"),
        Some(SEEDS)
    );
}

#[test]
fn every_lane_has_its_cpu() {
    for lanes in 1..=8u32 {
        let text = format!(
            "[[guest]]\nname = \"a\"\nkernel = \"guest-kernel\"\nmemory = \"64M\"\nlanes = {lanes}\n"
        );
        let compiled = compiled(&text);
        let fdt = Fdt::new(file(&compiled, "a/dtb")).expect("it is a device tree");
        let cpus = fdt.find_node("/cpus").expect("it is there");
        assert_eq!(cpus.children().count(), lanes as usize);
        assert_eq!(cells(&fdt, "/intc@8000000", "reg")[7], lanes * 0x2_0000);
    }
}

/// A guest with an initrd and this overlay, and its device tree.
fn with_overlay(overlay: Vec<u8>) -> Result<Vec<u8>, String> {
    let text = "[[guest]]\nname = \"a\"\nkernel = \"k\"\ninitrd = \"i\"\noverlay = \"o\"\nmemory = \"64M\"\nlanes = 2\n";
    let disk = Disk::with(&[
        ("k", fixtures::SMALL.image()),
        ("i", vec![1; 9000]),
        ("o", overlay),
    ]);
    let compiled = compile("t", text.as_bytes(), &disk, &RunOptions::default());
    let compiled = compiled.map_err(|refused| refused.to_string())?;
    Ok(file(&compiled, "a/dtb").to_vec())
}

#[test]
fn an_overlay_adds_and_changes_what_it_may() {
    let mut tree = overlay(
        "/",
        node("__overlay__", &[("model", b"mine\0")]),
        vec![node(
            "sensor",
            &[("compatible", b"acme,sensor\0"), ("reg", &[7; 4])],
        )],
    );
    let mut fragment = node("fragment@1", &[("target-path", b"/chosen\0")]);
    fragment.add_child(node(
        "__overlay__",
        &[("bootargs", b"quiet\0"), ("rng-seed", &[1, 2])],
    ));
    tree.root.add_child(fragment);
    let dtb = with_overlay(tree.to_dtb()).expect("it fits");
    let fdt = Fdt::new(&dtb).expect("it is a device tree");
    assert_eq!(texts(&fdt, "/", "model"), ["mine"]);
    assert_eq!(texts(&fdt, "/sensor", "compatible"), ["acme,sensor"]);
    assert_eq!(texts(&fdt, "/chosen", "bootargs"), ["quiet"]);
    // What was there is there, and the initrd's place is the real one.
    assert_eq!(
        cells(&fdt, "/memory@40000000", "reg"),
        [0, 0x4000_0000, 0, 64 << 20]
    );
    let (start, end) = (
        cells(&fdt, "/chosen", "linux,initrd-start"),
        cells(&fdt, "/chosen", "linux,initrd-end"),
    );
    assert_eq!(end[1] - start[1], 9000);
    assert!(start[1] > 0x4000_0000);
}

#[test]
fn an_overlay_finds_nodes_by_their_labels() {
    for (label, path) in [
        ("uart0", "/pl011@9000000"),
        ("rtc0", "/pl031@9010000"),
        ("virtio31", "/virtio_mmio@a003e00"),
    ] {
        let tree = overlay_of_label(label, &[("status", b"disabled\0")]);
        let dtb = with_overlay(tree.to_dtb()).expect("it fits");
        let fdt = Fdt::new(&dtb).expect("it is a device tree");
        assert_eq!(texts(&fdt, path, "status"), ["disabled"]);
        assert_eq!(texts(&fdt, "/__symbols__", label), [path]);
    }
}

/// A reference from a new node to one of ours, and to another new one: what `dtc -@` makes of `&gic` and `&mine`.
#[test]
fn an_overlay_refers_to_our_nodes_and_its_own() {
    let source = "/dts-v1/;\n/plugin/;\n&{/} { mine: clk { #clock-cells = <0>; compatible = \"fixed-clock\"; clock-frequency = <1>; };\n\
        dev { interrupt-parent = <&gic>; clocks = <&mine>, <&apb_pclk>; }; };\n";
    let path = std::env::temp_dir().join(format!("xdv-overlay-{}.dts", std::process::id()));
    std::fs::write(&path, source).expect("a file can be written");
    let output = Command::new("dtc")
        .args(["-q", "-@", "-I", "dts", "-O", "dtb"])
        .arg(&path)
        .output();
    std::fs::remove_file(&path).expect("the file can be removed");
    // Not every computer has a `dtc`.
    let Ok(output) = output else { return };
    assert!(output.status.success(), "{output:?}");
    let dtb = with_overlay(output.stdout).expect("it fits");
    let fdt = Fdt::new(&dtb).expect("it is a device tree");
    assert_eq!(
        cells(&fdt, "/dev", "interrupt-parent"),
        cells(&fdt, "/intc@8000000", "phandle")
    );
    let clocks = [
        cells(&fdt, "/clk", "phandle"),
        cells(&fdt, "/apb-pclk", "phandle"),
    ]
    .concat();
    assert_eq!(cells(&fdt, "/dev", "clocks"), clocks);
    assert_eq!(texts(&fdt, "/__symbols__", "mine"), ["/clk"]);
}

/// A device tree is padded by some tools; what it says of its own length counts.
#[test]
fn an_overlay_may_be_padded() {
    let mut bytes = overlay("/chosen", node("__overlay__", &[]), vec![]).to_dtb();
    bytes.resize(bytes.len() + 4096, 0);
    assert!(with_overlay(bytes).is_ok());
}

#[test]
fn an_overlay_nested_without_end_is_refused() {
    let mut inner = node("a", &[]);
    for _ in 0..200 {
        let mut outer = node("a", &[]);
        outer.add_child(inner);
        inner = outer;
    }
    let tree = overlay("/", node("__overlay__", &[]), vec![inner]);
    let refused = with_overlay(tree.to_dtb()).expect_err("it is deep");
    assert!(refused.contains("nested"), "{refused}");
    // Deep enough to overflow a stack, were it followed.
    let mut bytes = tree_of(300_000);
    assert!(with_overlay(bytes.clone()).is_err());
    bytes.truncate(1000);
    assert!(with_overlay(bytes).is_err());
}

/// A device tree of one branch, written by hand: no library would.
fn tree_of(depth: usize) -> Vec<u8> {
    let mut structure = Vec::new();
    for level in 0..depth {
        structure.extend_from_slice(&1_u32.to_be_bytes());
        structure.extend_from_slice(if level == 0 { b"\0\0\0\0" } else { b"a\0\0\0" });
    }
    structure.extend(2_u32.to_be_bytes().repeat(depth));
    structure.extend_from_slice(&9_u32.to_be_bytes());
    let length = |bytes: usize| u32::try_from(bytes).expect("it is short");
    let (start, strings) = (56, 56 + structure.len());
    let header = [
        0xD00D_FEED,
        length(strings),
        start,
        length(strings),
        40,
        17,
        16,
        0,
        0,
        length(structure.len()),
    ];
    let mut tree: Vec<u8> = header
        .iter()
        .flat_map(|word: &u32| word.to_be_bytes())
        .collect();
    tree.resize(56, 0);
    tree.extend(structure);
    tree
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// An overlay with damage: applied to a tree that tells the truth, or refused in words. No panic.
    #[test]
    fn damaged_overlays_are_applied_or_refused(
        which in 0usize..3,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let tree: DeviceTree = match which {
            0 => overlay("/", node("__overlay__", &[("model", b"mine\0")]), vec![node("dev", &[("phandle", &[0, 0, 0, 1])])]),
            1 => overlay_of_label("uart0", &[("status", b"okay\0")]),
            _ => {
                let mut tree = overlay_of_label("gic", &[]);
                tree.root.add_property(property("compatible", b"linux,dummy-virt\0"));
                tree.root.add_child(node("__symbols__", &[("dev", b"/fragment@0/__overlay__\0")]));
                tree
            }
        };
        let mut bytes = tree.to_dtb();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        match with_overlay(bytes) {
            Ok(dtb) => {
                let fdt = Fdt::new(&dtb).expect("it is a device tree");
                prop_assert_eq!(cells(&fdt, "/memory@40000000", "reg"), [0, 0x4000_0000, 0, 64 << 20]);
                prop_assert_eq!(fdt.find_node("/cpus").expect("it is there").children().count(), 2);
                prop_assert_eq!(cells(&fdt, "/pl011@9000000", "interrupts"), [0, 1, 4]);
            }
            Err(refused) => prop_assert!(!refused.contains("fault of XDV"), "{}", refused),
        }
    }
}
