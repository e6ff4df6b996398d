//! Function identifiers of XDV's hypercalls.
//!
//! Layout of an identifier (DEN0028, "Function Identifier"): bit 31 = fast call, bit 30 = 64-bit
//! convention, bits 29:24 = owner, bits 15:0 = function. Owner 6 is the vendor specific hypervisor
//! service range, where function numbers `0xFF00..` are fixed general queries.
//!
//! Identifiers are 32 bits wide: EL2 compares `w0` and ignores the upper half of `x0`.

/// Asks for the ABI's version and features. `x0` = [`Version`](crate::Version),
/// `x1` = [`Features`](crate::Features).
pub const VERSION: u32 = 0xC600_0100;

/// Writes text to the guest's console. See [`ConsoleWrite`](crate::ConsoleWrite).
pub const CONSOLE_WRITE: u32 = 0xC600_0140;

/// Ends the calling machine, all its lanes, with an exit code. Does not return.
/// See [`ExitCode`](crate::ExitCode).
pub const EXIT: u32 = 0xC600_0141;

/// Lends the calling lane's turn to the machine's lane `x1`, which most likely holds a lock that the caller waits for.
/// `x0` = [`Status`](crate::Status): `InvalidParameters` when the machine has no such lane. Success says nothing about
/// whether the other lane ran: it may be running already, wait itself, or share no CPU with the caller.
pub const YIELD_TO: u32 = 0xC600_0142;

/// How many calls the vendor specific hypervisor range offers (DEN0028, "General service queries").
pub const CALL_COUNT: u32 = 0x8600_FF00;

/// Who offers the range: four words in `w0..w3`, see [`UID_WORDS`].
pub const UID: u32 = 0x8600_FF01;

/// The range's revision: `w0` = major, `w1` = minor.
pub const REVISION: u32 = 0x8600_FF03;

/// XDV's identity, `b1091a93-ed56-4c40-8701-1b29e5e87318`, as [`UID`] returns it: byte 0 of the
/// UUID in the low byte of `w0`.
pub const UID_WORDS: [u32; 4] = [0x931A_09B1, 0x404C_56ED, 0x291B_0187, 0x1873_E8E5];

/// Every function of the range, in ascending order.
pub const ALL: [u32; 7] = [
    CALL_COUNT,
    UID,
    REVISION,
    VERSION,
    CONSOLE_WRITE,
    EXIT,
    YIELD_TO,
];

/// What [`CALL_COUNT`] answers.
pub const CALL_COUNT_VALUE: u32 = 7;

/// What [`REVISION`] answers: major, minor.
pub const REVISION_WORDS: [u32; 2] = [0, 2];

const _: () = {
    assert!(ALL.len() == 7 && CALL_COUNT_VALUE == 7);
    let mut rest: &[u32] = &ALL;
    while let [function, tail @ ..] = rest {
        assert!(*function >> 31 == 1, "every call is fast");
        assert!((*function >> 24) & 0x3F == 6, "owner: vendor hypervisor");
        assert!((*function >> 16) & 0xFF == 0, "reserved bits are zero");
        rest = tail;
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_ascending_and_without_repeats() {
        assert!(ALL.windows(2).all(|pair| pair[0] < pair[1]));
    }

    #[test]
    fn the_numbers_are_pinned() {
        // A published number never changes: guests in the field were built with it.
        assert_eq!(VERSION, 0xC600_0100);
        assert_eq!(CONSOLE_WRITE, 0xC600_0140);
        assert_eq!(EXIT, 0xC600_0141);
        assert_eq!(YIELD_TO, 0xC600_0142);
        assert_eq!(
            [CALL_COUNT, UID, REVISION],
            [0x8600_FF00, 0x8600_FF01, 0x8600_FF03]
        );
    }

    #[test]
    fn the_uid_is_the_uuid_in_register_order() {
        let uuid: u128 = 0xb1091a93_ed56_4c40_8701_1b29e5e87318;
        let bytes = uuid.to_be_bytes();
        for (index, word) in UID_WORDS.iter().enumerate() {
            assert_eq!(word.to_le_bytes(), bytes[index * 4..index * 4 + 4]);
        }
    }
}
