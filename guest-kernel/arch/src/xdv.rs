//! Calls to XDV, by the numbers of `dustlib-k-abi`.

use core::sync::atomic::{AtomicU8, Ordering};
use dustlib_k_abi::{ConsoleWrite, ExitCode, Status, Version, hvc};
use guest_kernel_core::machine::Conduit;
use smccc::{Call, Hvc, Smc};

/// Bit 0: the conduit is SMC. Bit 1: XDV answers. Written once, before other lanes run; plain
/// loads and stores, since it is needed while the MMU is off.
static STATE: AtomicU8 = AtomicU8::new(0);
const SMC: u8 = 1;
const XDV: u8 = 2;

pub(crate) fn conduit() -> Conduit {
    match STATE.load(Ordering::Relaxed) & SMC {
        0 => Conduit::Hvc,
        _ => Conduit::Smc,
    }
}

/// Whether XDV is underneath.
#[must_use]
pub fn is_present() -> bool {
    STATE.load(Ordering::Relaxed) & XDV != 0
}

/// Asks, through this conduit, whether XDV is underneath; remembers both.
pub fn detect(conduit: Conduit) {
    let smc = match conduit {
        Conduit::Hvc => 0,
        Conduit::Smc => SMC,
    };
    STATE.store(smc, Ordering::Relaxed);
    let [a, b, c, d, ..] = call32(hvc::UID, [0; 7]);
    if [a, b, c, d] == hvc::UID_WORDS {
        STATE.store(smc | XDV, Ordering::Relaxed);
    }
}

fn call32(function: u32, arguments: [u32; 7]) -> [u32; 8] {
    match conduit() {
        Conduit::Hvc => Hvc::call32(function, arguments),
        Conduit::Smc => Smc::call32(function, arguments),
    }
}

fn call64(function: u32, [x1, x2]: [u64; 2]) -> [u64; 2] {
    let mut arguments = [0; 17];
    let [first, second, ..] = &mut arguments;
    (*first, *second) = (x1, x2);
    let [x0, x1, ..] = match conduit() {
        Conduit::Hvc => Hvc::call64(function, arguments),
        Conduit::Smc => Smc::call64(function, arguments),
    };
    [x0, x1]
}

/// The version of the ABI that XDV speaks, if it is there.
#[must_use]
pub fn version() -> Option<Version> {
    if !is_present() {
        return None;
    }
    let [x0, _] = call64(hvc::VERSION, [0; 2]);
    Version::from_register(x0)
}

/// Writes bytes to the guest's console.
///
/// # Errors
/// What XDV answered, or [`Status::NotSupported`] without XDV.
pub fn console_write(bytes: &[u8]) -> Result<(), Status> {
    if !is_present() {
        return Err(Status::NotSupported);
    }
    let mut rest = bytes;
    while !rest.is_empty() {
        let address = crate::image::address_of(rest.as_ptr()).get();
        let len = u64::try_from(rest.len()).map_err(|_| Status::InvalidParameters)?;
        let request = ConsoleWrite::new(address, len.min(dustlib_k_abi::console::MAX_LEN))?;
        let [x0, x1] = call64(hvc::CONSOLE_WRITE, request.to_arguments());
        let taken = usize::try_from(request.taken(x0, x1)?).unwrap_or(0);
        rest = match rest.get(taken..) {
            Some(left) if taken > 0 => left,
            _ => return Err(Status::Denied),
        };
    }
    Ok(())
}

/// Ends the machine, if XDV is there.
pub fn exit(code: ExitCode) {
    if is_present() {
        call64(hvc::EXIT, [code.to_register(), 0]);
    }
}
