//! Calls by HVC and SMC under the SMC Calling Convention (Arm DEN0028).
//!
//! [`Call::parse`] is pure and total: any immediate and any register values have an answer, and what is not listed is
//! NOT_SUPPORTED. No call is ever passed on to the firmware. Only the registers that a result is returned in change:
//! X4 to X17 always survive, which version 1.1 demands, and X1 to X3 survive a call that returns one value.

pub mod trng;
mod workarounds;

pub use workarounds::{Cpu, Workaround, Workarounds};

use ::smccc::arch::{self, error as arch_error};
use ::smccc::psci::PSCI_VERSION;
use dustlib_k_abi::{ConsoleWrite, ExitCode, Features, Status, hvc, version};

use crate::psci;

/// The version of the calling convention: 1.2.
pub const VERSION: arch::Version = arch::Version { major: 1, minor: 2 };

/// NOT_SUPPORTED, sign-extended over the whole register.
pub const NOT_SUPPORTED: u64 = u64::MAX;

/// The results of a call, from X0 up. Registers beyond them keep their values.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Results {
    /// X0.
    One(u64),
    /// X0 and X1.
    Two([u64; 2]),
    /// X0 to X3.
    Four([u64; 4]),
}

/// What a call asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Request {
    /// Nothing but an answer: put it into the registers and resume.
    Return(Results),
    /// A PSCI call.
    Psci(psci::Call),
    /// Text for the console. The length is checked, the address is not: it is for EL2 to prove that it is the guest's.
    ConsoleWrite(ConsoleWrite),
    /// Random bits.
    Random(trng::Wanted),
    /// The guest ends.
    Exit(ExitCode),
    /// Lend the lane's turn to the lane with this number, if the machine has one.
    YieldTo(u64),
}

/// A call as the guest made it: an allegation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Call {
    /// The immediate of HVC or SMC.
    pub imm: u16,
    /// X0 to X3.
    pub x: [u64; 4],
}

/// The answer to the commonest call, PSCI_VERSION, by two comparisons; `None` for every other.
#[inline]
#[must_use]
pub const fn quick(imm: u16, x0: u64) -> Option<u64> {
    if imm == 0 && low(x0) == PSCI_VERSION {
        Some((psci::VERSION.major as u64) << 16 | psci::VERSION.minor as u64)
    } else {
        None
    }
}

/// The answers that need nothing but the function's number, for the hot path: PSCI_VERSION, and
/// NOT_SUPPORTED for every function of whose owner and block nothing is offered here.
#[inline(always)]
#[must_use]
pub const fn instant(x0: u64) -> Option<u64> {
    if let Some(version) = quick(0, x0) {
        return Some(version);
    }
    // Owner (bits 29:24) and the upper byte of the function number: of the architecture's calls (0) those below 0x100,
    // WORKAROUND_3 (0x3FFF) and those from 0x7F00 up, of PSCI (4) those below 0x100, of the vendor's (6) blocks 0x01 and 0xFF.
    let block = (low(x0) >> 8) & 0xFF;
    let offered = match (low(x0) >> 24) & 0x3F {
        0 => block == 0 || block == 0x3F || block >= 0x7F,
        4 => block == 0,
        6 => block == 0x01 || block == 0xFF,
        _ => false,
    };
    if offered { None } else { Some(NOT_SUPPORTED) }
}

impl Call {
    /// What the call asks for.
    pub const fn parse(self, workarounds: Workarounds) -> Request {
        let [x0, x1, x2, x3] = self.x;
        let function = low(x0);
        // Every immediate but zero is reserved (DEN0028 2.9).
        if self.imm != 0 {
            return refuse();
        }
        if let Some(call) = psci::Call::parse(function, [x1, x2, x3]) {
            return Request::Psci(call);
        }
        if let Some(request) = trng::parse(function, x1) {
            return request;
        }
        match function {
            arch::SMCCC_VERSION => one((VERSION.major as u64) << 16 | VERSION.minor as u64),
            arch::SMCCC_ARCH_FEATURES => one(arch_features(low(x1), workarounds)),
            arch::SMCCC_ARCH_WORKAROUND_1 => mitigate(workarounds.w1),
            arch::SMCCC_ARCH_WORKAROUND_2 => mitigate(workarounds.w2),
            arch::SMCCC_ARCH_WORKAROUND_3 => mitigate(workarounds.w3),
            _ => vendor(function, x1, x2),
        }
    }
}

/// The vendor specific hypervisor range: XDV's own calls.
const fn vendor(function: u32, x1: u64, x2: u64) -> Request {
    match dustlib_k_abi::Call::from_id(function) {
        None => refuse(),
        Some(dustlib_k_abi::Call::CallCount) => one(hvc::CALL_COUNT_VALUE as u64),
        Some(dustlib_k_abi::Call::Uid) => {
            let [a, b, c, d] = hvc::UID_WORDS;
            Request::Return(Results::Four([a as u64, b as u64, c as u64, d as u64]))
        }
        Some(dustlib_k_abi::Call::Revision) => {
            let [major, minor] = hvc::REVISION_WORDS;
            Request::Return(Results::Two([major as u64, minor as u64]))
        }
        Some(dustlib_k_abi::Call::Version) => Request::Return(Results::Two([
            version::CURRENT_WORD as u64,
            Features::NONE.to_register(),
        ])),
        Some(dustlib_k_abi::Call::ConsoleWrite) => match ConsoleWrite::from_arguments(x1, x2) {
            Ok(write) => Request::ConsoleWrite(write),
            Err(status) => console_result(status, 0),
        },
        Some(dustlib_k_abi::Call::Exit) => Request::Exit(ExitCode::from_register(x1)),
        Some(dustlib_k_abi::Call::YieldTo) => Request::YieldTo(x1),
    }
}

/// The answer to a console write: its status, and how many bytes were taken.
pub const fn console_result(status: Status, taken: u64) -> Request {
    Request::Return(Results::Two([status.to_register(), taken]))
}

/// SMCCC_ARCH_FEATURES (DEN0028 7.3).
const fn arch_features(function: u32, workarounds: Workarounds) -> u64 {
    match function {
        arch::SMCCC_VERSION | arch::SMCCC_ARCH_FEATURES => 0,
        // 1: the call exists, and no CPU needs it.
        arch::SMCCC_ARCH_WORKAROUND_1 => discover(workarounds.w1, 1),
        arch::SMCCC_ARCH_WORKAROUND_2 => discover(workarounds.w2, arch_error::NOT_REQUIRED as i64),
        arch::SMCCC_ARCH_WORKAROUND_3 => discover(workarounds.w3, 1),
        _ => NOT_SUPPORTED,
    }
}

const fn discover(workaround: Workaround, not_required: i64) -> u64 {
    match workaround {
        Workaround::Unknown => NOT_SUPPORTED,
        Workaround::NotRequired => not_required.cast_unsigned(),
    }
}

const fn mitigate(workaround: Workaround) -> Request {
    match workaround {
        Workaround::Unknown => refuse(),
        Workaround::NotRequired => one(0),
    }
}

const fn one(x0: u64) -> Request {
    Request::Return(Results::One(x0))
}

const fn refuse() -> Request {
    one(NOT_SUPPORTED)
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the function identifier is W0 (DEN0028 2.4)"
)]
const fn low(x: u64) -> u32 {
    x as u32
}

impl Results {
    /// Writes the results, and nothing else.
    #[inline]
    pub const fn apply(self, x: &mut [u64; 31]) {
        let [x0, x1, x2, x3, ..] = x;
        match self {
            Self::One(a) => *x0 = a,
            Self::Two([a, b]) => {
                *x0 = a;
                *x1 = b;
            }
            Self::Four([a, b, c, d]) => {
                *x0 = a;
                *x1 = b;
                *x2 = c;
                *x3 = d;
            }
        }
    }
}

#[cfg(test)]
mod tests;
