use proptest::prelude::*;

use super::*;

fn read(bytes: &[u8]) -> Option<Symbols> {
    Symbols::read(&Rc::new(bytes.to_vec()))
}

const MAP: &str = "\
ffff800008000000 T _text
ffff800008010000 T __entry_text_start
ffff800008010800 T vectors
ffff800008011000 t el1t_64_sync\t[module]
ffff800008012000 D jiffies
ffff800008013000 T _panic
ffff800008013000 T panic
0000000000000042 a absolute
                 w nothing
";

#[test]
fn a_map_names_code_and_only_code() {
    let symbols = read(MAP.replace("                 w nothing\n", "").as_bytes()).unwrap();
    let at = |address: u64| symbols.at(0xffff_8000_0800_0000 + address);
    assert_eq!(at(0x1_0804), Some(("vectors", 4)));
    assert_eq!(at(0x1_0800), Some(("vectors", 0)));
    assert_eq!(at(0x1_1ffc), Some(("el1t_64_sync", 0xffc)));
    assert_eq!(at(0x1_2000), None, "data");
    assert_eq!(at(0x1_3010), Some(("panic", 0x10)), "what people call it");
    assert_eq!(at(0x1_3000 + LAST), None, "too far behind the last one");
    assert_eq!(symbols.at(0), None);
    assert_eq!(symbols.address_of("vectors"), Some(0xffff_8000_0801_0800));
    assert_eq!(symbols.address_of("absolute"), None);
    assert_eq!(symbols.base(), None);
}

#[test]
fn what_has_no_symbols_is_told() {
    let stub =
        "ffffffffffffffff B The real System.map is in the linux-image-<version>-dbg package\n";
    for text in [
        stub,
        "",
        "a b",
        "no such thing here\n",
        &MAP.replace("ffff8", "xyz"),
    ] {
        assert_eq!(read(text.as_bytes()), None, "{text}");
    }
}

/// This very test, in this very program.
#[cfg(target_os = "linux")]
#[test]
fn an_elf_file_names_its_functions() {
    let me = std::fs::read(std::env::current_exe().unwrap()).unwrap();
    let symbols = read(&me).unwrap();
    let mine = symbols
        .list
        .iter()
        .find(|symbol| symbol.name.contains("an_elf_file_names_its_functions") && symbol.size > 8)
        .unwrap();
    let (name, offset) = symbols.at(mine.address + 4).unwrap();
    assert!(name.contains("an_elf_file_names") && offset == 4, "{name}");
    assert!(
        symbols
            .list
            .iter()
            .all(|symbol| !symbol.name.starts_with('$'))
    );
}

/// A number's little-endian bytes, on a multiple of `align`.
fn put(image: &mut Vec<u8>, align: usize, bytes: &[u8]) {
    image.resize(image.len().next_multiple_of(align), 0);
    image.extend_from_slice(bytes);
}

/// An `Image` with the table of so many symbols, as Linux lays it out since 6.4 or before.
fn image(number: u32, new: bool) -> Vec<u8> {
    let tokens: Vec<Vec<u8>> = (0..=255u8)
        .map(|byte| match byte {
            0x01 => b"sys_".to_vec(),
            b'0'..=b'9' | b'A'..=b'z' => vec![byte],
            _ => b"unused".to_vec(),
        })
        .collect();
    let (mut names, mut markers, mut offsets) = (Vec::new(), Vec::new(), Vec::new());
    for nth in 0..number {
        if nth % 256 == 0 {
            markers.extend(u32::try_from(names.len()).unwrap().to_le_bytes());
        }
        let long = "x".repeat(if nth % 100 == 7 { 130 } else { 0 });
        let name = [&b"T\x01"[..], format!("f{nth:05}{long}").as_bytes()].concat();
        match u8::try_from(name.len()) {
            Ok(short) if short < 0x80 => names.push(short),
            _ => {
                let [low, high] = [name.len() & 0x7f, name.len() >> 7];
                names.extend([low | 0x80, high].map(|byte| u8::try_from(byte).unwrap()));
            }
        }
        names.extend(name);
        offsets.extend((nth * 64).to_le_bytes());
    }
    let mut image = vec![0x1f; 0x1000];
    if !new {
        put(&mut image, 8, &offsets);
        put(&mut image, 8, &[0; 8]);
    }
    put(&mut image, 8, &number.to_le_bytes());
    put(&mut image, 8, &names);
    put(&mut image, 8, &markers);
    if !new {
        // The order of names.
        put(&mut image, 8, &vec![0x77; 3 * number as usize]);
    }
    image.resize(image.len().next_multiple_of(8), 0);
    let mut index = Vec::new();
    let mut table = Vec::new();
    for token in &tokens {
        index.extend(u16::try_from(table.len()).unwrap().to_le_bytes());
        table.extend_from_slice(token);
        table.push(0);
    }
    put(&mut image, 8, &table);
    put(&mut image, 8, &index);
    if new {
        put(&mut image, 8, &offsets);
        put(&mut image, 8, &[0; 8]);
    }
    image.extend([0x1f; 64]);
    image
}

#[test]
fn linux_names_itself_in_both_layouts() {
    for new in [false, true] {
        let symbols = read(&image(9999, new)).unwrap();
        assert_eq!(symbols.list.len(), 9999);
        assert_eq!(symbols.at(64 * 5000 + 12), Some(("sys_f05000", 12)));
        assert_eq!(symbols.at(64 * 107).unwrap().0.len(), 4 + 6 + 130);
    }
}

/// Debian's own kernel, where somebody has fetched it.
#[test]
#[ignore = "needs a kernel: XDV_IMAGE"]
fn a_real_kernel_names_itself() {
    let path = std::env::var("XDV_IMAGE").unwrap();
    let symbols = read(&std::fs::read(path).unwrap()).unwrap();
    let vectors = symbols.address_of("vectors").unwrap();
    assert_eq!(vectors % 0x800, 0);
    let panic = symbols.address_of("panic").unwrap();
    assert_eq!(symbols.at(panic + 8), Some(("panic", 8)));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A table with bytes changed or an end cut off gives names or none.
    #[test]
    fn a_damaged_table_does_no_harm(
        new in any::<bool>(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        cut in any::<prop::sample::Index>(), whole in any::<bool>(),
    ) {
        let mut image = image(4200, new);
        for (at, byte) in changes {
            let at = at.index(image.len());
            image[at] = byte;
        }
        let end = if whole { image.len() } else { cut.index(image.len()) };
        if let Some(symbols) = read(&image[..end]) {
            let _ = symbols.at(64 * 100);
        }
    }
}
