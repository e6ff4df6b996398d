//! Memory that a device reaches, taken once and kept for good.

use core::marker::PhantomData;
use core::ptr::NonNull;

use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE};

use crate::Refusal;

/// So many bytes that this value alone leads to, in equal pieces. Who lends a piece to a device makes no slice of it
/// until the device is done.
pub(crate) struct Pieces<H> {
    base: NonNull<u8>,
    size: usize,
    count: usize,
    hal: PhantomData<fn() -> H>,
}

// SAFETY: memory is memory on any CPU, and nothing else leads to it.
unsafe impl<H> Send for Pieces<H> {}

impl<H: Hal> Pieces<H> {
    /// Takes memory, zeroed and never given back.
    pub fn take(count: usize, size: usize) -> Result<Self, Refusal> {
        let bytes = count.checked_mul(size).ok_or(Refusal::Memory)?;
        let pages = bytes.div_ceil(PAGE_SIZE);
        let (address, base) = H::dma_alloc(pages, BufferDirection::Both);
        let hal = PhantomData;
        match address {
            0 => Err(Refusal::Memory),
            _ => Ok(Self {
                base,
                size,
                count,
                hal,
            }),
        }
    }

    /// The bytes `from..from + len` of a piece; `None` when they are not all in it.
    ///
    /// # Safety
    /// No other slice has any of these bytes while this one lives, and no device writes them.
    pub unsafe fn slice<'a>(&self, piece: usize, from: usize, len: usize) -> Option<&'a mut [u8]> {
        let end = from.checked_add(len)?;
        (piece < self.count && end <= self.size).then_some(())?;
        let offset = piece.checked_mul(self.size)?.checked_add(from)?;
        // SAFETY: inside the memory that `take` got, by the checks above.
        let first = unsafe { self.base.add(offset) };
        let mut bytes = NonNull::slice_from_raw_parts(first, len);
        // SAFETY: mapped and initialised for good; that nobody else has them the caller says.
        Some(unsafe { bytes.as_mut() })
    }
}
