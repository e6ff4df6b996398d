//! Whether an index passed the one that somebody waits for.

/// Whether an event is due (2.7.10, `virtq_need_event`): of the entries from `old` on and before `new`, one is at `event`.
/// All of them wrap.
#[inline]
pub(super) const fn passed(event: u16, new: u16, old: u16) -> bool {
    new.wrapping_sub(event).wrapping_sub(1) < new.wrapping_sub(old)
}
