//! What was compiled, for tests to read.

use configs_compiler::{Compiled, RunOptions, compile};
use dtoolkit::fdt::Fdt;
use dtoolkit::{Node, Property as _};

use crate::fixtures::Fixtures;

/// A machine file that is valid, compiled.
pub fn compiled(text: &str) -> Compiled {
    compile(
        "test.toml",
        text.as_bytes(),
        &Fixtures::default(),
        &RunOptions::default(),
    )
    .expect("it is valid")
}

/// The bytes of a file of the bundle.
pub fn file<'c>(compiled: &'c Compiled, name: &str) -> &'c [u8] {
    let file = compiled.files().iter().find(|file| file.name == name);
    &file.expect(name).data
}

/// A property's cells.
pub fn cells(fdt: &Fdt<'_>, node: &str, property: &str) -> Vec<u32> {
    let node = fdt.find_node(node).expect(node);
    let property = node.property(property).expect(property);
    property
        .value()
        .chunks_exact(4)
        .map(|cell| u32::from_be_bytes(cell.try_into().expect("four bytes")))
        .collect()
}

/// A property's strings.
pub fn texts(fdt: &Fdt<'_>, node: &str, property: &str) -> Vec<String> {
    let node = fdt.find_node(node).expect(node);
    let property = node.property(property).expect(property);
    let text = std::str::from_utf8(property.value()).expect("text");
    text.trim_end_matches('\0')
        .split('\0')
        .map(str::to_owned)
        .collect()
}
