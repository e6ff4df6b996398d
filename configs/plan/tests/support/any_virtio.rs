//! Any disks, networks and devices: mostly such that the rules hold, and each rule broken now and then.

use configs_plan::{
    DiskKind, DiskPlan, FaultKind, Faults, Lint, NetworkPlan, Offer, Part, Strike, VirtioDevice,
    VirtioPlan,
};
use proptest::prelude::*;

use super::virtio::{at, block, card, disk_of, image, net, of_machine};

fn any_name() -> impl Strategy<Value = String> {
    prop_oneof![40 => "[a-z][a-z0-9-]{4,30}", 1 => "[A-Z]?"]
}

fn any_part() -> impl Strategy<Value = (u64, Part<String>)> {
    let from = (0u64..40, 0u64..20).prop_map(|(first, sectors)| (sectors, Part::From(first)));
    prop_oneof![
        1 => Just((0, Part::Whole)),
        4 => from,
        2 => (0u32..9).prop_map(|n| (0, Part::Number(n))),
        2 => "[ -~]{0,37}".prop_map(|name| (0, Part::Name(name))),
    ]
}

fn any_disk() -> impl Strategy<Value = DiskPlan<String>> {
    let sizes = || {
        let len = prop_oneof![9 => (0u64..9).prop_map(|n| n * 512), 1 => 0u64..5000];
        (any_name(), "[a-z0-9/.]{1,47}", 1u64..12, len)
    };
    let memory = (sizes(), any::<bool>()).prop_map(|((name, file, sectors, len), empty)| {
        let image = (!empty).then(|| image(&file, len));
        disk_of(&name, sectors, DiskKind::Memory { image })
    });
    let readonly = sizes().prop_map(|(name, file, sectors, len)| {
        let sectors = if sectors < 9 { len / 512 } else { sectors };
        let image = image(&file, len);
        disk_of(&name, sectors, DiskKind::Readonly { image })
    });
    let own = prop_oneof![9 => (1u64..9).prop_map(|n| n * 4096), 1 => any::<u64>()];
    let snapshot = (sizes(), own).prop_map(|((name, file, sectors, len), memory)| {
        let image = image(&file, len);
        disk_of(&name, sectors, DiskKind::Snapshot { image, memory })
    });
    let machine = (any_name(), 0u32..4, any_part(), any::<bool>());
    let machine = machine.prop_map(|(name, unit, (sectors, part), readonly)| {
        let mut disk = of_machine(&name, sectors, unit, part);
        if let DiskKind::Machine { is_readonly, .. } = &mut disk.kind {
            *is_readonly = readonly;
        }
        disk
    });
    prop_oneof![memory, readonly, snapshot, machine]
}

fn any_device() -> impl Strategy<Value = VirtioDevice> {
    let mac = prop_oneof![9 => any::<u8>().prop_map(|n| [2, 0, 0, 0, 0, n]), 1 => Just([0; 6]), 1 => Just([1; 6])];
    let net = (
        0u32..3,
        mac,
        prop_oneof![9 => 0u16..4095, 1 => any::<u16>()],
        any::<u64>(),
    );
    let net = net.prop_map(|(network, mac, vlan, rate)| VirtioDevice::Net {
        network,
        mac,
        vlan,
        rate,
    });
    prop_oneof![
        3 => net,
        1 => any::<u8>().prop_map(|n| card(n, 0)),
        6 => (0u32..4, any::<bool>()).prop_map(|(disk, is_readonly)| block(disk, is_readonly)),
        1 => Just(VirtioDevice::Console),
        1 => Just(VirtioDevice::Entropy),
        1 => Just(VirtioDevice::Balloon),
        2 => (2u32..40, 0u32..4).prop_map(|(cid, peers)| VirtioDevice::Vsock { cid, peers }),
    ]
}

/// A guest's devices.
pub fn any_devices() -> impl Strategy<Value = Vec<VirtioPlan>> {
    let slot = prop_oneof![20 => 0u32..32, 1 => any::<u32>()];
    let one = (slot, any_device()).prop_map(|(slot, device)| at(slot, device));
    prop_oneof![3 => prop::collection::vec(one, 0..4), 2 => Just(Vec::new())]
}

/// What goes wrong on purpose, if anything.
pub fn any_faults() -> impl Strategy<Value = Option<Faults>> {
    let rate = prop_oneof![9 => 0u32..1_000_001, 1 => Just(1_000_001)];
    let faults = (any::<u64>(), prop::array::uniform8(rate));
    // No rate at all is written as none.
    let some = |(seed, rates): (u64, [u32; 8])| {
        let any = rates.iter().any(|rate| *rate != 0);
        any.then(|| Faults::new(seed, rates))
    };
    prop_oneof![4 => Just(None), 1 => faults.prop_map(some)]
}

/// What goes wrong exactly when: mostly with devices that may be there.
pub fn any_script() -> impl Strategy<Value = Vec<Strike>> {
    let number = || prop_oneof![6 => 0..20u64, 1 => any::<u64>()];
    let slot = prop_oneof![9 => 0u32..32, 1 => any::<u32>()];
    let kind = prop::sample::select(FaultKind::ALL.to_vec());
    let one = (slot, kind, number(), number());
    let one = one.prop_map(|(slot, kind, first, count)| Strike {
        slot,
        kind,
        first,
        count,
    });
    prop_oneof![4 => Just(Vec::new()), 1 => prop::collection::vec(one, 0..3)]
}

/// What is kept back.
pub fn any_offer() -> impl Strategy<Value = Offer> {
    let bits =
        prop_oneof![9 => any::<u64>().prop_map(|bits| bits & Offer::FEATURES), 1 => any::<u64>()];
    let size =
        prop_oneof![4 => Just(0), 4 => (0u32..16).prop_map(|bit| 1u16 << bit), 1 => any::<u16>()];
    let offer = (bits, size).prop_map(|(withheld, queue_size)| Offer {
        withheld,
        queue_size,
    });
    prop_oneof![1 => Just(Offer::default()), 1 => offer]
}

pub fn any_lint() -> impl Strategy<Value = Lint> {
    prop_oneof![Just(Lint::Off), Just(Lint::Errors), Just(Lint::Strict)]
}

/// Disks and networks.
pub fn any_machine() -> impl Strategy<Value = (Vec<DiskPlan<String>>, Vec<NetworkPlan<String>>)> {
    let net = (any_name(), any::<bool>()).prop_map(|(name, uplink)| net(&name, uplink));
    let disks = prop::collection::vec(any_disk(), 0..4);
    (disks, prop::collection::vec(net, 0..4))
}
