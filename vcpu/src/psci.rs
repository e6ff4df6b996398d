//! The PSCI 1.1 server (Arm DEN0022): what a guest asks about power, judged against its own lanes.
//!
//! [`Call::parse`] recognises a call, [`serve`] decides it. Whatever must happen to a lane or to the machine is an
//! [`Outcome`] for the dispatcher. Each lane's power state is two bits of one atomic word, so that of any number of
//! racing CPU_ON exactly one wins, and exactly one CPU_OFF is the last.

mod power;

pub use ::smccc::psci::error::Error;
pub use power::{LastOut, MAX_LANES, Power, State};

use ::smccc::psci as ids;
use ::smccc::psci::{AffinityState, MigrateType};
use stage2_addr::Ipa;

/// The version that is implemented.
pub const VERSION: ids::Version = ids::Version { major: 1, minor: 1 };

/// A PSCI call. Calls of the specification that are not implemented are not here: they are NOT_SUPPORTED.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Call {
    /// PSCI_VERSION
    Version,
    /// CPU_SUSPEND
    CpuSuspend {
        /// power_state
        state: u32,
    },
    /// CPU_OFF
    CpuOff,
    /// CPU_ON
    CpuOn {
        /// target_cpu, an MPIDR
        target: u64,
        /// entry_point_address
        entry: Ipa,
        /// context_id
        context: u64,
    },
    /// AFFINITY_INFO
    AffinityInfo {
        /// target_affinity
        target: u64,
        /// lowest_affinity_level
        level: u64,
    },
    /// MIGRATE_INFO_TYPE
    MigrateInfoType,
    /// SYSTEM_OFF
    SystemOff,
    /// SYSTEM_RESET
    SystemReset,
    /// SYSTEM_RESET2
    SystemReset2 {
        /// reset_type
        kind: u32,
    },
    /// PSCI_FEATURES
    Features {
        /// psci_func_id
        function: u32,
    },
}

impl Call {
    /// The call with function identifier `function` and arguments X1 to X3. The 32-bit forms use the low halves.
    #[must_use]
    pub const fn parse(function: u32, [x1, x2, x3]: [u64; 3]) -> Option<Self> {
        let [w1, w2, w3] = [low(x1), low(x2), low(x3)];
        Some(match function {
            ids::PSCI_VERSION => Self::Version,
            ids::PSCI_CPU_SUSPEND_32 | ids::PSCI_CPU_SUSPEND_64 => Self::CpuSuspend { state: w1 },
            ids::PSCI_CPU_OFF => Self::CpuOff,
            ids::PSCI_CPU_ON_32 => Self::cpu_on(w1 as u64, w2 as u64, w3 as u64),
            ids::PSCI_CPU_ON_64 => Self::cpu_on(x1, x2, x3),
            ids::PSCI_AFFINITY_INFO_32 => Self::AffinityInfo {
                target: w1 as u64,
                level: w2 as u64,
            },
            ids::PSCI_AFFINITY_INFO_64 => Self::AffinityInfo {
                target: x1,
                level: w2 as u64,
            },
            ids::PSCI_MIGRATE_INFO_TYPE => Self::MigrateInfoType,
            ids::PSCI_SYSTEM_OFF => Self::SystemOff,
            ids::PSCI_SYSTEM_RESET => Self::SystemReset,
            ids::PSCI_SYSTEM_RESET2_32 | ids::PSCI_SYSTEM_RESET2_64 => {
                Self::SystemReset2 { kind: w1 }
            }
            ids::PSCI_FEATURES => Self::Features { function: w1 },
            _ => return None,
        })
    }

    const fn cpu_on(target: u64, entry: u64, context: u64) -> Self {
        Self::CpuOn {
            target,
            entry: Ipa::new(entry),
            context,
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "W registers are the low halves"
)]
const fn low(x: u64) -> u32 {
    x as u32
}

/// What is to be done about a call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[must_use]
pub enum Outcome {
    /// Put this into X0 and resume.
    Return(u64),
    /// The lane has been claimed, and is [`State::OnPending`]: hand it its first registers and start it, then return
    /// SUCCESS. Whoever runs it calls [`Power::started`].
    PowerOn {
        /// The lane.
        lane: usize,
        /// Its first instruction.
        entry: Ipa,
        /// Its X0.
        context: u64,
    },
    /// Stop the calling lane; when nothing of it runs any more, call [`Power::turned_off`].
    PowerOffSelf,
    /// Suspend the calling lane as WFI would, then return SUCCESS.
    Suspend,
    /// The guest ends well.
    SystemOff,
    /// The guest asks to be restarted.
    SystemReset,
}

impl Outcome {
    fn error(error: Error) -> Self {
        Self::Return(i64::from(error).cast_unsigned())
    }

    const SUCCESS: Self = Self::Return(0);
}

/// Decides a call. `power` holds the guest's lanes; `is_entry` tells whether an address is in the guest's RAM.
pub fn serve(call: Call, power: &Power, is_entry: impl FnOnce(Ipa) -> bool) -> Outcome {
    match call {
        Call::Version => Outcome::Return(u64::from(u32::from(VERSION))),
        Call::CpuSuspend { state } => suspend(state),
        Call::CpuOff => Outcome::PowerOffSelf,
        Call::CpuOn {
            target,
            entry,
            context,
        } => cpu_on(power, target, entry, context, is_entry).unwrap_or_else(Outcome::error),
        Call::AffinityInfo { target, level } => match affinity_info(power, target, level) {
            Ok(state) => Outcome::Return(state as u64),
            Err(error) => Outcome::error(error),
        },
        Call::MigrateInfoType => Outcome::Return(MigrateType::MigrationNotRequired as u64),
        Call::SystemOff => Outcome::SystemOff,
        Call::SystemReset => Outcome::SystemReset,
        // Reset type 0 is SYSTEM_WARM_RESET; those with bit 31 are a vendor's, the rest are reserved.
        Call::SystemReset2 { kind: 0 } => Outcome::SystemReset,
        Call::SystemReset2 { kind: _ } => Outcome::error(Error::InvalidParameters),
        Call::Features { function } => features(function),
    }
}

/// Only standby of the lane itself: the original format (PSCI_FEATURES says so) with StateType, bit 16, power level,
/// bits 25:24, and StateID all zero. A guest's device tree describes no other state.
fn suspend(state: u32) -> Outcome {
    if state == 0 {
        Outcome::Suspend
    } else {
        Outcome::error(Error::InvalidParameters)
    }
}

/// Lane `n` has the MPIDR with Aff0 = n and all else zero, so an MPIDR names a lane only by being its number: bits
/// 31:24 and 63:40 must be zero (DEN0022 5.1.4), and so must the other affinities.
fn lane(power: &Power, mpidr: u64) -> Result<usize, Error> {
    usize::try_from(mpidr)
        .ok()
        .filter(|lane| *lane < power.lanes())
        .ok_or(Error::InvalidParameters)
}

fn cpu_on(
    power: &Power,
    target: u64,
    entry: Ipa,
    context: u64,
    is_entry: impl FnOnce(Ipa) -> bool,
) -> Result<Outcome, Error> {
    let lane = lane(power, target)?;
    if !entry.is_aligned(4) || !is_entry(entry) {
        return Err(Error::InvalidAddress);
    }
    power.turn_on(lane)?;
    Ok(Outcome::PowerOn {
        lane,
        entry,
        context,
    })
}

fn affinity_info(power: &Power, target: u64, level: u64) -> Result<AffinityState, Error> {
    match level {
        0 => lane(power, target).map(|lane| power.state(lane).affinity()),
        // All lanes share Aff1 to Aff3 = 0; Aff0 is ignored.
        1..=3 if target & !0xff == 0 => Ok(power.any().affinity()),
        _ => Err(Error::InvalidParameters),
    }
}

/// Zero for what is implemented. For CPU_SUSPEND the feature flags: original format, platform-coordinated mode.
fn features(function: u32) -> Outcome {
    let known = function == ::smccc::arch::SMCCC_VERSION || Call::parse(function, [0; 3]).is_some();
    if known {
        Outcome::SUCCESS
    } else {
        Outcome::error(Error::NotSupported)
    }
}

#[cfg(test)]
mod tests;
