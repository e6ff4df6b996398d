//! BOOT-01 to BOOT-03: the header, the blocks and the tokens.

extern crate std;

use std::string::{String, ToString};
use std::vec::Vec;

use super::build::{Node, assemble, blob, cells, good, read_bytes};
use crate::total_size;

/// What EL2 prints when the word at `at` of a good blob says `value`.
fn with_word(at: usize, value: u32) -> String {
    let mut bytes = good().blob();
    bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
    refusal(&bytes)
}

fn refusal(bytes: &[u8]) -> String {
    read_bytes(bytes).expect_err("refused").to_string()
}

/// What EL2 prints for a structure block of these words, with one name `n` in the strings block.
fn tokens(words: &[u32]) -> String {
    refusal(&assemble(&cells(words), b"n\0", &[]))
}

#[test]
fn boot_01_magic_version_and_size() {
    let said = with_word(0, 0xedfe_0dd0);
    assert_eq!(
        said,
        "device tree: header: magic is of no device tree: 0xedfe0dd0"
    );
    for (size, why) in [
        (0, "smaller than the header"),
        (7, "smaller than the header"),
        (39, "smaller than the header"),
        (0x1_0000, "larger than the memory it was found in"),
        (0x20_0001, "larger than 2 MiB"),
        (u32::MAX, "larger than 2 MiB"),
    ] {
        let wanted = std::format!("device tree: header: totalsize is {why}: {size:#x}");
        assert_eq!(with_word(4, size), wanted);
    }
    assert!(with_word(20, 16).contains("version is older than 17: 0x10"));
    assert!(
        with_word(24, 18).contains("last_comp_version is not compatible with version 17: 0x12")
    );
    for len in 0..40 {
        let said = refusal(&good().blob()[..len]);
        assert!(
            said.contains("less than the 40 bytes of a header"),
            "{said}"
        );
    }
    for total in [40_u32, 0x20_0000] {
        let header = cells(&[0xd00d_feed, total, 0, 0, 0, 0, 0, 0, 0, 0]);
        let wanted = usize::try_from(total).unwrap();
        assert_eq!(total_size(header.first_chunk().unwrap()), Ok(wanted));
    }
}

#[test]
fn boot_01_the_blob_begins_on_eight_bytes() {
    let bytes = good().blob();
    let mut room = std::vec![0_u8; bytes.len() + 16];
    let from = room.as_ptr().align_offset(8) + 4;
    room[from..from + bytes.len()].copy_from_slice(&bytes);
    let said = crate::read(&room[from..]).unwrap_err().to_string();
    assert!(said.contains("not a multiple of 8"), "{said}");
}

#[test]
fn boot_02_blocks_lie_inside_apart_and_aligned() {
    let total = u32::try_from(good().blob().len()).unwrap();
    for (at, field) in [
        (8, "off_dt_struct"),
        (12, "off_dt_strings"),
        (16, "off_mem_rsvmap"),
    ] {
        for value in [0, 8, 39, total + 8, 0x7fff_fff8, u32::MAX, u32::MAX - 7] {
            let said = with_word(at, value);
            assert!(said.contains(field), "{at} {value:#x}: {said}");
        }
    }
    assert!(with_word(8, 57).contains("off_dt_struct is misaligned: 0x39"));
    assert!(with_word(16, 44).contains("off_mem_rsvmap is misaligned: 0x2c"));
    assert!(with_word(12, 56).contains("off_dt_strings has a block that overlaps another: 0x38"));
    // Sixteen zeros inside a property would do for an empty reservation block.
    let mut bytes = good().raw("zeros", &[0; 32]).blob();
    let zeros = (56..bytes.len())
        .step_by(8)
        .find(|at| bytes[*at..at + 16] == [0; 16]);
    let zeros = u32::try_from(zeros.unwrap()).unwrap();
    bytes[16..20].copy_from_slice(&zeros.to_be_bytes());
    assert!(refusal(&bytes).contains("off_mem_rsvmap has a block that overlaps another: "));
    assert!(with_word(32, u32::MAX).contains("off_dt_strings"));
    assert!(with_word(36, u32::MAX).contains("off_dt_struct"));
    assert!(with_word(36, 57).contains("size_dt_struct is not a whole number of tokens: 0x39"));
    assert!(with_word(36, 0).contains("no FDT_END"));
}

#[test]
fn boot_02_the_structure_ends_where_it_says() {
    assert!(tokens(&[]).contains("no FDT_END"));
    assert!(tokens(&[1, 0, 2]).contains("no FDT_END"));
    // A debug build of `fdt-rs` panics when no word follows the last one of the blob.
    let bare = |words: &[u32]| refusal(&assemble(&cells(words), b"", &[]));
    assert!(bare(&[1, 0, 2]).contains("no FDT_END"));
    assert!(bare(&[1, 0, 4]).contains("no FDT_END"));
    assert!(bare(&[1, 0, 2, 9]).contains("an enabled memory node is missing"));
    assert!(tokens(&[9]).contains("no root node before 0x38"));
    assert!(tokens(&[1, 0, 9]).contains("ends inside a node at"));
    assert!(tokens(&[2, 9]).contains("a node that ends but never began at"));
    assert!(tokens(&[1, 0, 2, 2, 9]).contains("a node that ends but never began at"));
    assert!(tokens(&[1, 0, 2, 1, 0, 2, 9]).contains("a second root node"));
    assert!(tokens(&[1, 0, 1, 0, 2, 2, 9]).contains("a node without a name at"));
    assert!(tokens(&[3, 0, 0, 9]).contains("a property outside its node"));
    let late = [1, 0, 1, 0x6100_0000, 2, 3, 0, 0, 2, 9];
    assert!(tokens(&late).contains("a property outside its node"));
    for kind in [0, 5, 8, 10, 0x0100_0000, u32::MAX] {
        let said = tokens(&[1, 0, kind, 2, 9]);
        assert_eq!(
            said,
            "device tree: the structure block has a malformed token at 0x40"
        );
    }
    // What is missing is found behind these, so they are well formed.
    assert!(
        tokens(&[4, 1, 0, 4, 3, 0, 0, 4, 2, 4, 9]).contains("an enabled memory node is missing")
    );
    assert!(tokens(&[1, 0, 2, 9, 77, 78]).contains("an enabled memory node is missing"));
}

/// Neither the stack nor the time grows with the depth: the seventeenth level is the last thing that is read.
#[test]
fn boot_02_nesting_is_bounded() {
    let nested = |depth: usize| {
        let mut words = std::vec![1, 0];
        words.extend([1, 0x6100_0000].repeat(depth));
        words.extend(std::vec![2; depth + 1]);
        words.push(9);
        words
    };
    assert!(tokens(&nested(15)).contains("an enabled memory node is missing"));
    for depth in [16, 100, 100_000] {
        let words = nested(depth);
        let small = std::thread::Builder::new().stack_size(64 << 10);
        let said = small.spawn(move || tokens(&words)).unwrap().join().unwrap();
        assert_eq!(
            said,
            "device tree: the structure block has nodes that nest too deeply at 0xb8"
        );
    }
}

#[test]
fn boot_03_properties_lie_inside_the_blocks() {
    for len in [1, 9, 0x1000, u32::MAX - 3, u32::MAX] {
        let said = tokens(&[1, 0, 3, len, 0]);
        assert!(
            said.contains("a token that leaves it") || said.contains("malformed"),
            "{said}"
        );
    }
    // A value may not reach into the strings block either, though that is inside the blob.
    assert!(refusal(&assemble(&cells(&[1, 0, 3, 4, 0]), b"abcdefgh\0", &[])).contains("leaves"));
    // `fdt-rs` itself refuses what is outside the blob; what is only outside the strings block is for us to see.
    for name in [2, 3, 40, 0x1000, u32::MAX] {
        let said = tokens(&[1, 0, 3, 0, name, 2, 9]);
        let seen = said.contains("not in the strings block") || said.contains("malformed");
        assert!(seen, "{name}: {said}");
    }
    assert!(tokens(&[1, 0, 3, 0, 2, 2, 9]).contains("not in the strings block"));
    let unended = assemble(&cells(&[1, 0, 3, 0, 0, 2, 9]), b"name", &[]);
    assert!(refusal(&unended).contains("not in the strings block"));
    assert!(tokens(&[1, 0, 3, 0, 1, 2, 9]).contains("a property without a name at 0x40"));
    let long = [b'a'; 300];
    let unended = assemble(&cells(&[1, 0, 3, 0, 0, 2, 9]), &long, &[]);
    assert!(refusal(&unended).contains("not in the strings block"));
}

#[test]
fn boot_03_names_are_text_and_end() {
    assert!(tokens(&[1, 0x6161_6161, 0x6161_6161]).contains("a node whose name has no end at"));
    let mut words = std::vec![1, 0, 1];
    words.extend([0x6161_6161; 40]);
    words.extend([0, 2, 2, 9]);
    assert!(
        tokens(&words).contains("a node whose name has no end at"),
        "longer than any name may be"
    );
    for byte in [1, 9, 0x20, 0x7f, 0x80, 0xc3, 0xff_u8] {
        let mut bad = good();
        bad.children[0].name = std::vec![b'a', byte];
        assert!(bad.refusal().contains("not printable ASCII"), "{byte:#x}");
        let bad = Node::new("");
        let mut bad = good().child(bad.clone());
        bad.children.pop();
        bad.props.push((std::vec![byte, b'a'], Vec::new()));
        assert!(bad.refusal().contains("not printable ASCII"), "{byte:#x}");
    }
}

/// `fdt-rs` alone stops at 29 bytes.
#[test]
fn names_of_all_lengths_are_read() {
    for len in 1..=127 {
        let name = "n".repeat(len);
        let tree = good().child(Node::new(&name).child(Node::new(&name)).cells("x", &[1]));
        assert_eq!(tree.read(), good().read(), "{len}");
    }
    assert!(
        good()
            .child(Node::new(&"n".repeat(128)))
            .refusal()
            .contains("whose name has no end at")
    );
}

#[test]
fn the_reservation_block() {
    let with = |entries: &[(u64, u64)]| read_bytes(&blob(&good(), entries));
    let machine = with(&[(0x4000_1234, 1), (0x5000_0000, 0x2000)]).unwrap();
    let regions: Vec<_> = machine.reserved.iter().map(ToString::to_string).collect();
    assert_eq!(
        regions,
        ["0x40001000..0x40002000", "0x50000000..0x50002000"]
    );
    let said = |entries: &[(u64, u64)]| with(entries).unwrap_err().to_string();
    let wanted = "device tree: a memory reservation wraps around from 0xffffffffffffffff";
    assert_eq!(said(&[(0x1000, 1), (u64::MAX, 2)]), wanted);
    assert!(said(&[(0x1000, 0)]).ends_with("a memory reservation has an empty region at 0x1000"));
    assert!(with(&[(0x1000, 1); 32]).is_ok());
    assert!(
        said(&[(0x1000, 1); 33])
            .contains("off_mem_rsvmap has more entries than there is room for: 0x20")
    );
    // Without a terminator the block runs into the next, and is refused at the latest at the end of the blob.
    let mut bytes = blob(&good(), &[]);
    bytes[40..56].fill(0xff);
    assert!(read_bytes(&bytes).is_err());
}
