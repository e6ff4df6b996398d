//! What a node is, by the names in its `compatible`.

use super::error::words;

words! {
    /// The models that EL2 knows.
    Model {
        GicV3 = "arm,gic-v3",
        Timer = "arm,armv8-timer",
        Psci = "arm,psci-0.2",
        Psci1 = "arm,psci-1.0",
        OldPsci = "arm,psci",
        Pl011 = "arm,pl011",
        Pl031 = "arm,pl031",
        Pl061 = "arm,pl061",
        VirtioMmio = "virtio,mmio",
        // What a machine without a GICv3 may have in its place.
        CortexA15Gic = "arm,cortex-a15-gic",
        Gic400 = "arm,gic-400",
        CortexA9Gic = "arm,cortex-a9-gic",
        CortexA7Gic = "arm,cortex-a7-gic",
        CortexA5Gic = "arm,cortex-a5-gic",
        Pl390 = "arm,pl390",
        Eb11mpGic = "arm,eb11mp-gic",
        GicV5 = "arm,gic-v5",
    }
}

words! {
    /// Names of nodes, and values of properties, that mean something.
    Word {
        Aliases = "aliases",
        Chosen = "chosen",
        Cpu = "cpu",
        Cpus = "cpus",
        Hvc = "hvc",
        Memory = "memory",
        Ok = "ok",
        Okay = "okay",
        Psci = "psci",
        ReservedMemory = "reserved-memory",
        Smc = "smc",
    }
}

/// What one node says that it is, as far as EL2 knows it. Read once a node, and asked by everybody.
#[derive(Clone, Copy, Default)]
pub(super) struct Models(u32);

impl Models {
    /// Takes note of one name.
    pub(super) fn add(&mut self, name: &[u8]) {
        if let Some(model) = Model::named(name) {
            self.0 |= 1 << model as u32;
        }
    }

    /// Whether the node is this.
    pub(super) fn has(self, model: Model) -> bool {
        self.0 & (1 << model as u32) != 0
    }

    /// The interrupt controller that EL2 does not drive, if the node is one.
    pub(super) fn other_gic(self) -> Option<Model> {
        let first = Model::CortexA15Gic as usize;
        let mut others = Model::ALL.iter().skip(first);
        others.find(|model| self.has(**model)).copied()
    }
}
