//! The entries of a newc cpio archive (cpio(5)): just enough to take a kernel out of a bundle.

/// The bytes of the entry with this name.
#[must_use]
pub fn entry<'a>(archive: &'a [u8], name: &str) -> Option<&'a [u8]> {
    let mut at = 0usize;
    loop {
        let header = archive.get(at..at.checked_add(110)?)?;
        if header.get(..6)? != b"070701" {
            return None;
        }
        let size = field(header, 54)?;
        let name_size = field(header, 94)?;
        let name_at = at + 110;
        let here = archive
            .get(name_at..name_at.checked_add(name_size)?)?
            .strip_suffix(&[0])?;
        let data_at = (name_at + name_size).next_multiple_of(4);
        let data = archive.get(data_at..data_at.checked_add(size)?)?;
        if here == name.as_bytes() {
            return Some(data);
        }
        if here == b"TRAILER!!!" {
            return None;
        }
        at = (data_at + size).next_multiple_of(4);
    }
}

fn field(header: &[u8], at: usize) -> Option<usize> {
    let digits = std::str::from_utf8(header.get(at..at + 8)?).ok()?;
    usize::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn newc(entries: &[(&str, &[u8])]) -> Vec<u8> {
        let mut archive = Vec::new();
        for (name, data) in entries.iter().chain(&[("TRAILER!!!", &[][..])]) {
            let mut fields = [0usize; 13];
            fields[6] = data.len();
            fields[11] = name.len() + 1;
            archive.extend(b"070701");
            fields
                .iter()
                .for_each(|field| archive.extend(format!("{field:08x}").bytes()));
            archive.extend(name.bytes().chain([0]));
            archive.resize(archive.len().next_multiple_of(4), 0);
            archive.extend(*data);
            archive.resize(archive.len().next_multiple_of(4), 0);
        }
        archive
    }

    #[test]
    fn an_entry_is_found_and_a_torn_archive_is_not_read() {
        let archive = newc(&[("plan", b"12345"), ("bench/kernel", b"kernel")]);
        assert_eq!(entry(&archive, "bench/kernel"), Some(&b"kernel"[..]));
        assert_eq!(entry(&archive, "plan"), Some(&b"12345"[..]));
        assert_eq!(entry(&archive, "other"), None);
        for length in 0..archive.len() {
            let _ = entry(&archive[..length], "other");
        }
    }
}
