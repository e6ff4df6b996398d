//! What a node is, by the names in its `compatible`.

/// What a machine without a GICv3 may have in its place.
const OTHER_GICS: [&str; 8] = [
    "arm,cortex-a15-gic",
    "arm,gic-400",
    "arm,cortex-a9-gic",
    "arm,cortex-a7-gic",
    "arm,cortex-a5-gic",
    "arm,pl390",
    "arm,eb11mp-gic",
    "arm,gic-v5",
];

/// What one node says that it is, as far as EL2 knows it. Read once a node, and asked by everybody.
#[derive(Default)]
pub(super) struct Models {
    /// A GICv3.
    pub(super) gic_v3: bool,
    /// Another interrupt controller, which EL2 does not drive.
    pub(super) other_gic: Option<&'static str>,
    /// The generic timer.
    pub(super) timer: bool,
    /// PSCI 0.2 or newer.
    pub(super) psci: bool,
    /// The PSCI whose function numbers every firmware chose for itself.
    pub(super) old_psci: bool,
    /// The serial port.
    pub(super) pl011: bool,
}

impl Models {
    /// Takes note of one name.
    pub(super) fn add(&mut self, name: &[u8]) {
        match name {
            b"arm,gic-v3" => self.gic_v3 = true,
            b"arm,armv8-timer" => self.timer = true,
            b"arm,psci-0.2" | b"arm,psci-1.0" => self.psci = true,
            b"arm,psci" => self.old_psci = true,
            b"arm,pl011" => self.pl011 = true,
            other => {
                let known = OTHER_GICS.into_iter().find(|gic| gic.as_bytes() == other);
                self.other_gic = self.other_gic.or(known);
            }
        }
    }
}
