//! Which chains the device has.

use super::Broken;

/// A bit for each head (split), or for each buffer id (packed). The specification bounds no id, but its own driver takes
/// them below the queue's size (2.8.21.3), as all drivers do; one above 255 is refused.
#[derive(Clone, Copy)]
pub(super) struct Flight([u64; 4]);

impl Flight {
    pub(super) const fn new() -> Self {
        Self([0; 4])
    }

    /// The device takes it.
    ///
    /// # Errors
    /// It has it already, or can have none of that number.
    #[inline]
    pub(super) fn take(&mut self, id: u16) -> Result<(), Broken> {
        let bit = 1 << (id % 64);
        match self.0.get_mut(usize::from(id / 64)) {
            Some(word) if *word & bit == 0 => {
                *word |= bit;
                Ok(())
            }
            _ => Err(Broken),
        }
    }

    /// Whether the device has it, or can have none of that number.
    #[inline(always)]
    pub(super) fn has(&self, id: u16) -> bool {
        let word = self.0.get(usize::from(id / 64));
        word.is_none_or(|word| word >> (id % 64) & 1 != 0)
    }

    /// The device gives it back. Whether it had it.
    #[inline]
    pub(super) fn give(&mut self, id: u16) -> bool {
        let bit = 1 << (id % 64);
        match self.0.get_mut(usize::from(id / 64)) {
            Some(word) if *word & bit != 0 => {
                *word &= !bit;
                true
            }
            _ => false,
        }
    }
}
