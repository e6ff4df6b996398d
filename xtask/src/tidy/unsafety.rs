//! Law 6: unsafe code lives in the crates whose folder is called `arch`.

use super::Breach;
use super::crates::Crates;
use super::sources::Source;

/// Every crate's root forbids unsafe code or is in an `arch` crate; no other file contains any.
pub fn check(crates: &Crates, sources: &[Source]) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (name, entry) in crates
        .all()
        .iter()
        .filter(|(_, entry)| !entry.may_be_unsafe())
    {
        for root in &entry.roots {
            let forbids = sources
                .iter()
                .find(|source| source.path == *root)
                .and_then(|source| source.rust.as_ref())
                .is_some_and(|found| found.forbids_unsafe);
            if !forbids {
                breaches.push(Breach {
                    file: root.clone(),
                    line: Some(1),
                    what: format!("{name} must say #![forbid(unsafe_code)] (law 6)"),
                });
            }
        }
    }
    for source in sources {
        let Some(found) = &source.rust else { continue };
        if crates
            .owner(&source.path)
            .is_some_and(|(_, entry)| entry.may_be_unsafe())
        {
            continue;
        }
        for lines in &found.unsafes {
            breaches.push(Breach {
                file: source.path.clone(),
                line: Some(lines.first),
                what: "unsafe outside a crate called `arch` (law 6)".to_owned(),
            });
        }
    }
    breaches
}

/// How many lines of unsafe code each crate that may contain any has.
pub fn report(crates: &Crates, sources: &[Source]) -> Vec<Vec<String>> {
    let mut rows = vec![
        [
            "crate that may be unsafe",
            "unsafe pieces",
            "unsafe lines",
            "all lines",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for (name, _) in crates
        .all()
        .iter()
        .filter(|(_, entry)| entry.may_be_unsafe())
    {
        let own: Vec<&Source> = sources
            .iter()
            .filter(|source| {
                source.rust.is_some()
                    && crates
                        .owner(&source.path)
                        .is_some_and(|(owner, _)| owner == name)
            })
            .collect();
        let pieces: Vec<_> = own
            .iter()
            .filter_map(|source| source.rust.as_ref())
            .flat_map(|found| &found.unsafes)
            .collect();
        let lines: usize = own
            .iter()
            .filter_map(|source| source.rust.as_ref())
            .map(lines_of)
            .sum();
        let all: usize = own.iter().map(|source| source.text.lines().count()).sum();
        rows.push(vec![
            name.clone(),
            pieces.len().to_string(),
            lines.to_string(),
            all.to_string(),
        ]);
    }
    rows
}

/// Lines in at least one piece of unsafe code: a block inside an unsafe function counts once.
fn lines_of(found: &super::tokens::Found) -> usize {
    let lines: std::collections::BTreeSet<usize> = found
        .unsafes
        .iter()
        .flat_map(|lines| lines.first..=lines.last)
        .collect();
    lines.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn crates() -> Crates {
        let package = |name: &str, folder: &str| {
            format!(
                r#"{{"name":"{name}","manifest_path":"/w/{folder}/Cargo.toml","dependencies":[],"targets":[{{"kind":["lib"],"src_path":"/w/{folder}/src/lib.rs"}}]}}"#
            )
        };
        Crates::read(&format!(
            r#"{{"workspace_root":"/w","packages":[{},{}]}}"#,
            package("hypervisor", "hypervisor"),
            package("hypervisor-arch", "hypervisor/arch")
        ))
        .unwrap()
    }

    #[test]
    fn unsafe_in_arch_is_counted_and_elsewhere_refused() {
        let sources = [
            Source::new(
                "hypervisor/arch/src/lib.rs".into(),
                "fn a() {\n    unsafe {\n    }\n}\n".to_owned(),
            ),
            Source::new(
                "hypervisor/src/lib.rs".into(),
                "#![forbid(unsafe_code)]\n".to_owned(),
            ),
        ];
        assert_eq!(check(&crates(), &sources), []);
        assert_eq!(
            report(&crates(), &sources)[1],
            ["hypervisor-arch", "1", "2", "4"]
        );
        let sources = [Source::new(
            "hypervisor/src/lib.rs".into(),
            "\nfn a() { unsafe {} }\n".to_owned(),
        )];
        let shown: Vec<String> = check(&crates(), &sources)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(
            shown,
            [
                "hypervisor/src/lib.rs:1: hypervisor must say #![forbid(unsafe_code)] (law 6)",
                "hypervisor/src/lib.rs:2: unsafe outside a crate called `arch` (law 6)"
            ]
        );
    }
}
