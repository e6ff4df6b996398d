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
    /// The real-time clock.
    pub(super) pl031: bool,
}

impl Models {
    /// Takes note of one name.
    pub(super) fn add(&mut self, name: &[u8]) {
        let is = |known: &str| known.len() == name.len() && known.as_bytes() == name;
        self.gic_v3 |= is("arm,gic-v3");
        self.timer |= is("arm,armv8-timer");
        self.psci |= is("arm,psci-0.2") || is("arm,psci-1.0");
        self.old_psci |= is("arm,psci");
        self.pl011 |= is("arm,pl011");
        self.pl031 |= is("arm,pl031");
        if self.other_gic.is_none() {
            self.other_gic = OTHER_GICS.into_iter().find(|gic| is(gic));
        }
    }
}
