//! ELF files of a few instructions, as a linker would leave them.

/// Bytes of the headers.
const HEADERS: u64 = 64 + 56;

/// An ELF file with one segment, linked at this address and entered at its first byte.
#[must_use]
pub fn linked(address: u64, code: &[u8]) -> Vec<u8> {
    let length = code.len() as u64;
    let mut file = b"\x7FELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    file.extend(2u16.to_le_bytes()); // linked at a fixed address
    file.extend(183u16.to_le_bytes()); // AArch64
    file.extend(1u32.to_le_bytes());
    file.extend([address, 64, 0].map(u64::to_le_bytes).concat()); // entry, program headers, sections
    file.extend(0u32.to_le_bytes());
    file.extend([64u16, 56, 1, 64, 0, 0].map(u16::to_le_bytes).concat());
    file.extend([1u32, 5].map(u32::to_le_bytes).concat()); // to be loaded; readable, executable
    let segment = [HEADERS, address, address, length, length, 8];
    file.extend(segment.map(u64::to_le_bytes).concat());
    file.extend(code);
    file
}
