//! Seeds: found by name and length, and nothing else.

extern crate std;

use std::vec;
use std::vec::Vec;

use crate::seeds::value_at;

/// A tree of one node with these properties, behind each other.
fn tree(properties: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut structure, mut strings) = (vec![0, 0, 0, 1, 0, 0, 0, 0], Vec::new());
    for (name, value) in properties {
        structure.extend(3u32.to_be_bytes());
        structure.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
        structure.extend(u32::try_from(strings.len()).unwrap().to_be_bytes());
        structure.extend_from_slice(value);
        structure.resize(structure.len().next_multiple_of(4), 0);
        strings.extend(name.bytes());
        strings.push(0);
    }
    structure.extend([0, 0, 0, 2, 0, 0, 0, 9]);
    let mut tree = vec![0; 40];
    let at = 40 + structure.len();
    tree[8..12].copy_from_slice(&40u32.to_be_bytes());
    tree[12..16].copy_from_slice(&u32::try_from(at).unwrap().to_be_bytes());
    [tree, structure, strings].concat()
}

#[test]
fn a_seed_is_found_by_its_name_and_length() {
    let tree = tree(&[
        ("bootargs", b"kaslr-seed"),
        ("kaslr-seedling", &[1; 8]),
        ("kaslr-seed", &[2; 4]),
        ("kaslr-seed", &[3; 8]),
        ("rng-seed", &[4; 32]),
    ]);
    let value = |name: &[u8], length: usize| {
        let at = value_at(&tree, name, length)?;
        tree.get(at..at + length)
    };
    assert_eq!(value(b"kaslr-seed\0", 8), Some(&[3; 8][..]));
    assert_eq!(value(b"rng-seed\0", 32), Some(&[4; 32][..]));
    assert_eq!(value(b"rng-seed\0", 8), None);
    assert_eq!(value(b"no-seed\0", 8), None);
}

#[test]
fn no_bytes_do_any_harm() {
    let whole = tree(&[("kaslr-seed", &[3; 8])]);
    for end in 0..whole.len() {
        let _ = value_at(&whole[..end], b"kaslr-seed\0", 8);
    }
    for at in 0..whole.len() {
        let mut bad = whole.clone();
        bad[at] ^= 0xff;
        if let Some(found) = value_at(&bad, b"kaslr-seed\0", 8) {
            assert!(found + 8 <= bad.len());
        }
    }
    assert_eq!(value_at(&[0xff; 200], b"x\0", 8), None);
}
