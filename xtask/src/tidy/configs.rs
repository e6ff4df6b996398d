//! A config that no test mentions is a promise that nobody keeps.

use std::path::Path;

use super::Breach;
use super::sources::Source;

/// Every `configs/*.toml` is named in a Rust file of `tests`.
pub fn check(sources: &[Source]) -> Vec<Breach> {
    let is_config = |source: &&Source| {
        source.path.parent() == Some(Path::new("configs"))
            && source
                .path
                .extension()
                .is_some_and(|extension| extension == "toml")
    };
    let is_tested = |config: &Source| {
        let name = config
            .path
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        sources.iter().any(|source| {
            source.path.starts_with("tests") && source.rust.is_some() && source.text.contains(&name)
        })
    };
    let breach = |config: &Source| Breach {
        file: config.path.clone(),
        line: None,
        what: "no end-to-end test mentions this config".to_owned(),
    };
    sources
        .iter()
        .filter(is_config)
        .filter(|config| !is_tested(config))
        .map(breach)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_without_a_test_is_named() {
        let config = || Source::new("configs/one-guest.toml".into(), String::new());
        let test = || {
            Source::new(
                "tests/tests/boots.rs".into(),
                "const C: &str = \"one-guest.toml\";".to_owned(),
            )
        };
        assert_eq!(check(&[config()]).len(), 1);
        assert!(check(&[config(), test()]).is_empty());
        assert!(check(&[Source::new("configs/plan/Cargo.toml".into(), String::new())]).is_empty());
    }
}
