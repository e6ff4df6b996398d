//! Who may depend on whom (ARCHITECTURE.md, laws 1 to 5).

use super::Breach;
use super::crates::{Crate, Crates};
use crate::project::Project;
use crate::{process, toolchain};

/// Law 1: these meet in `hypervisor` and nowhere else.
const STRANGERS: [&str; 4] = ["domain-hv", "stage2", "vcpu", "virtio"];
/// Law 2: all unsafe code of EL2, and the one crate that may use it.
const EL2_ARCH: &str = "hypervisor-arch";
const EL2: &str = "hypervisor";
/// Law 3: what reads text, or needs a heap, has no place at EL2.
const NOT_AT_EL2: [&str; 7] = [
    "toml",
    "serde",
    "serde_core",
    "serde_json",
    "postcard",
    "configs-compiler",
    "anyhow",
];
/// Law 4: what runs below EL2, and the one crate they share with it.
const GUESTS: [&str; 2] = ["guest-kernel", "tests-guests"];
const SHARED: &str = "dustlib-k-abi";
/// Law 5: nothing stands on these.
const TOPS: [&str; 3] = ["xtask", "tests", "tests-linux"];

/// Checks the laws on our own crates.
pub fn check(crates: &Crates) -> Vec<Breach> {
    let mut breaches = Vec::new();
    for (name, entry) in crates.all() {
        let mut breach = |what: String| {
            breaches.push(Breach {
                file: entry.manifest(),
                line: None,
                what,
            })
        };
        if STRANGERS.contains(&name.as_str()) {
            for other in STRANGERS
                .iter()
                .filter(|other| **other != name && crates.closure(name).contains(**other))
            {
                breach(format!(
                    "{name} depends on {other}, but only `{EL2}` may introduce them to each other (law 1)"
                ));
            }
        }
        if name != EL2 && names(entry).any(|on| on == EL2_ARCH) {
            breach(format!(
                "{name} depends on {EL2_ARCH}, which only `{EL2}` may (law 2)"
            ));
        }
        if GUESTS.contains(&name.as_str()) {
            let el2 = crates.closure(EL2);
            for both in crates
                .closure(name)
                .intersection(&el2)
                .filter(|both| *both != SHARED)
            {
                breach(format!(
                    "{name} and `{EL2}` are both built of {both}, but they share nothing of ours except {SHARED} (law 4)"
                ));
            }
        }
        for top in TOPS.iter().filter(|top| names(entry).any(|on| on == **top)) {
            breach(format!("{name} depends on {top}, and nothing may (law 5)"));
        }
    }
    breaches
}

fn names(entry: &Crate) -> impl Iterator<Item = &str> {
    entry
        .depends
        .iter()
        .chain(&entry.dev_depends)
        .map(String::as_str)
}

/// Law 3, registry crates included: what EL2 is really built of.
pub fn check_el2_closure(project: &Project) -> anyhow::Result<Vec<Breach>> {
    let mut cargo = toolchain::cargo();
    cargo.current_dir(&project.root).args([
        "tree",
        "--quiet",
        "-p",
        EL2,
        "-e",
        "normal,no-proc-macro",
        "--prefix",
        "none",
        "--target",
        toolchain::TARGET,
    ]);
    Ok(judge_el2_closure(&process::output_of(&mut cargo)?))
}

fn judge_el2_closure(tree: &str) -> Vec<Breach> {
    let built_of: std::collections::BTreeSet<&str> = tree
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let breach = |name: &&str| Breach {
        file: "hypervisor/Cargo.toml".into(),
        line: None,
        what: format!(
            "EL2 is built of {name}, but there is no text format and no heap at EL2 (law 3)"
        ),
    };
    NOT_AT_EL2
        .iter()
        .filter(|name| built_of.contains(**name))
        .map(breach)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A workspace of the named crates and what each depends on; `+name` is a dependency of its tests.
    fn workspace(crates: &[(&str, &[&str])]) -> Crates {
        let packages: Vec<String> = crates
            .iter()
            .map(|(name, depends)| {
                let depends: Vec<String> = depends
                    .iter()
                    .map(|on| match on.strip_prefix('+') {
                        Some(on) => format!(r#"{{"name":"{on}","kind":"dev"}}"#),
                        None => format!(r#"{{"name":"{on}","kind":null}}"#),
                    })
                    .collect();
                format!(r#"{{"name":"{name}","manifest_path":"/w/{name}/Cargo.toml","targets":[],"dependencies":[{}]}}"#, depends.join(","))
            })
            .collect();
        Crates::read(&format!(
            r#"{{"workspace_root":"/w","packages":[{}]}}"#,
            packages.join(",")
        ))
        .unwrap()
    }

    fn breaches(crates: &[(&str, &[&str])]) -> Vec<String> {
        check(&workspace(crates))
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn a_lawful_house_has_no_breach() {
        let house: &[(&str, &[&str])] = &[
            (
                "hypervisor",
                &["hypervisor-arch", "vcpu", "stage2", "domain-hv"],
            ),
            ("hypervisor-arch", &["vcpu", "stage2"]),
            ("vcpu", &["stage2-addr", "dustlib-k-abi"]),
            ("stage2", &["stage2-addr"]),
            ("stage2-addr", &[]),
            ("domain-hv", &["dustlib-k-abi"]),
            ("guest-kernel", &["dustlib-k-abi"]),
            ("dustlib-k-abi", &[]),
            ("xtask", &[]),
        ];
        assert_eq!(breaches(house), Vec::<String>::new());
    }

    #[test]
    fn strangers_that_meet_through_a_third_are_found() {
        let found = breaches(&[
            ("vcpu", &["middle"]),
            ("middle", &["stage2"]),
            ("stage2", &[]),
        ]);
        assert_eq!(
            found,
            [
                "vcpu/Cargo.toml: vcpu depends on stage2, but only `hypervisor` may introduce them to each other (law 1)"
            ]
        );
    }

    #[test]
    fn only_the_hypervisor_may_use_its_arch_crate_not_even_in_tests() {
        assert_eq!(
            breaches(&[("vcpu", &["+hypervisor-arch"]), ("hypervisor-arch", &[])]).len(),
            1
        );
    }

    #[test]
    fn guests_share_nothing_but_the_abi() {
        let found = breaches(&[
            ("hypervisor", &["stage2", "dustlib-k-abi"]),
            ("stage2", &[]),
            ("dustlib-k-abi", &[]),
            ("guest-kernel", &["stage2", "dustlib-k-abi"]),
        ]);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("both built of stage2"));
    }

    #[test]
    fn nothing_stands_on_the_tops() {
        assert_eq!(breaches(&[("vcpu", &["+tests"]), ("tests", &[])]).len(), 1);
        assert_eq!(breaches(&[("tests", &["xtask"]), ("xtask", &[])]).len(), 1);
    }

    #[test]
    fn el2_is_not_built_of_serde() {
        assert_eq!(
            judge_el2_closure(
                "hypervisor v0.1.0 (/w)\nserde v1.0.0\nserde v1.0.0 (*)\nspin v0.12\n"
            )
            .len(),
            1
        );
        assert!(judge_el2_closure("hypervisor v0.1.0\nspin v0.12.0\n").is_empty());
    }
}
