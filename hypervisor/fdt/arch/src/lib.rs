//! The one unsafe step into `fdt-rs`: bytes that it may take for a device tree.
//!
//! A crate of its own, so that the reader beside it, which judges hostile bytes, can forbid unsafe code.
#![cfg_attr(not(test), no_std)]

use fdt_rs::base::DevTree;

/// Bytes of a header (Devicetree Specification 5.2).
const HEADER: usize = 40;
/// How a device tree begins.
const MAGIC: u32 = 0xd00d_feed;

/// The device tree that is all of `bytes`; `None` when they are not aligned to 8 bytes, are no whole header, do not have
/// the magic number or are not exactly as long as their header says.
#[must_use]
pub fn open(bytes: &[u8]) -> Option<DevTree<'_>> {
    let word = |at: usize| {
        let word = bytes.get(at..)?.first_chunk()?;
        Some(u32::from_be_bytes(*word))
    };
    let said = usize::try_from(word(4)?).ok()?;
    let aligned = bytes.as_ptr().addr().is_multiple_of(8);
    if !aligned || bytes.len() < HEADER || word(0)? != MAGIC || said != bytes.len() {
        return None;
    }
    // SAFETY: `fdt-rs` asks for a slice that is aligned and as long as its `totalsize`, header included: just checked.
    // Where its blocks lie it reads from the header, and it bounds every read of them by the slice.
    let tree = unsafe { DevTree::new(bytes) };
    tree.ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[repr(align(8))]
    struct Blob([u8; 48]);

    fn blob(magic: u32, size: u32) -> Blob {
        let mut blob = Blob([0; 48]);
        blob.0[..4].copy_from_slice(&magic.to_be_bytes());
        blob.0[4..8].copy_from_slice(&size.to_be_bytes());
        blob
    }

    #[test]
    fn only_a_whole_aligned_blob_is_taken() {
        assert!(open(&blob(MAGIC, 48).0).is_some());
        assert!(open(&blob(MAGIC, 47).0).is_none());
        assert!(open(&blob(MAGIC, 49).0).is_none());
        assert!(open(&blob(0, 48).0).is_none());
        assert!(open(&blob(MAGIC, 32).0[..32]).is_none());
        assert!(open(&[]).is_none());
        let mut off = Blob([0; 48]);
        off.0[1..5].copy_from_slice(&MAGIC.to_be_bytes());
        off.0[5..9].copy_from_slice(&44u32.to_be_bytes());
        assert!(open(&off.0[1..45]).is_none());
    }
}
