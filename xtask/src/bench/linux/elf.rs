//! Writing a static AArch64 ELF (ELF-64 Object File Format 1.5): what to load where, and where to begin.

/// Bytes of the ELF header, and of a program header.
const HEADER: u64 = 64;
const PROGRAM_HEADER: u64 = 56;

/// Where the first byte of the first segment is in the file of `count` segments. Linux maps files by pages, so a
/// program's first segment has an address with the same offset in its page.
pub const fn first(count: u64) -> u64 {
    HEADER + PROGRAM_HEADER * count
}

/// An executable of these segments, each with the address of its first byte. All may be read, written and executed.
pub fn executable(entry: u64, segments: &[(u64, &[u8])]) -> Vec<u8> {
    let count = u16::try_from(segments.len()).unwrap_or(u16::MAX);
    let mut elf = Vec::new();
    // 64-bit, little-endian, version 1, System V.
    elf.extend(*b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0");
    // ET_EXEC for EM_AARCH64.
    elf.extend([2u16, 183].map(u16::to_le_bytes).as_flattened());
    elf.extend(1u32.to_le_bytes());
    // The entry; the program headers come next; no section headers.
    elf.extend([entry, HEADER, 0].map(u64::to_le_bytes).as_flattened());
    elf.extend(0u32.to_le_bytes());
    elf.extend(
        [64u16, 56, count, 64, 0, 0]
            .map(u16::to_le_bytes)
            .as_flattened(),
    );
    let mut offset = first(count.into());
    for (address, bytes) in segments {
        let size = bytes.len() as u64;
        // PT_LOAD, read, write and execute, no alignment.
        elf.extend([1u32, 7].map(u32::to_le_bytes).as_flattened());
        elf.extend(
            [offset, *address, *address, size, size, 1]
                .map(u64::to_le_bytes)
                .as_flattened(),
        );
        offset += size;
    }
    for (_, bytes) in segments {
        elf.extend(*bytes);
    }
    elf
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::{Object, ObjectSegment};

    #[test]
    fn a_reader_finds_what_was_written() {
        let written: [(u64, &[u8]); 2] = [(0x4000_0000, b"kernel"), (0x4800_0000, b"initrd!")];
        let bytes = executable(0x4000_0002, &written);
        let file = object::File::parse(bytes.as_slice()).unwrap();
        assert_eq!(file.architecture(), object::Architecture::Aarch64);
        assert_eq!(file.entry(), 0x4000_0002);
        let read: Vec<(u64, &[u8])> = file
            .segments()
            .map(|segment| (segment.address(), segment.data().unwrap()))
            .collect();
        assert_eq!(read, written);
        assert_eq!(bytes.get(usize::try_from(first(2)).unwrap()), Some(&b'k'));
    }
}
