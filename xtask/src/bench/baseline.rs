//! The committed figures that new ones are held against.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::judge::Figure;
use super::trace::Work;

/// The figures of an earlier run.
#[derive(Debug, PartialEq, Eq)]
pub struct Baseline {
    qemu: String,
    cpu: String,
    ops: BTreeMap<String, u64>,
    work: BTreeMap<String, Work>,
}

impl Baseline {
    /// A baseline of these figures.
    pub fn of(figures: &[Figure], qemu: &str, cpu: &str) -> Self {
        let ops = figures
            .iter()
            .map(|figure| (figure.name.clone(), figure.value))
            .collect();
        let work = figures
            .iter()
            .filter_map(|figure| Some((figure.name.clone(), figure.work?)))
            .collect();
        Self {
            qemu: qemu.to_owned(),
            cpu: cpu.to_owned(),
            ops,
            work,
        }
    }

    /// Reads the file; `None` when there is none.
    pub fn read(path: &Path) -> anyhow::Result<Option<Self>> {
        match fs::read_to_string(path) {
            Ok(text) => Self::parse(&text)
                .with_context(|| path.display().to_string())
                .map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
        }
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let value: Value = serde_json::from_str(text)?;
        let field = |name: &str| {
            value
                .get(name)
                .and_then(Value::as_str)
                .map(str::to_owned)
                .with_context(|| format!("no `{name}`"))
        };
        let map = |name: &str| {
            let map = value.get(name).and_then(Value::as_object);
            map.with_context(|| format!("no `{name}`"))
        };
        let mut ops = BTreeMap::new();
        for (name, figure) in map("ops")? {
            let Some(figure) = figure.as_u64() else {
                bail!("`{name}` is no count")
            };
            ops.insert(name.clone(), figure);
        }
        let mut work = BTreeMap::new();
        for (name, counts) in map("work")? {
            let count = |part: &str| counts.get(part).and_then(Value::as_u64);
            let Some(((sysreg, barrier), tlb)) =
                count("sysreg").zip(count("barrier")).zip(count("tlb"))
            else {
                bail!("the work of `{name}` is incomplete")
            };
            let counts = Work {
                sysreg,
                barrier,
                tlb,
            };
            work.insert(name.clone(), counts);
        }
        Ok(Self {
            qemu: field("qemu")?,
            cpu: field("cpu")?,
            ops,
            work,
        })
    }

    /// Writes the file.
    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let work: BTreeMap<&String, BTreeMap<&str, u64>> = self
            .work
            .iter()
            .map(|(name, work)| (name, work.parts().into()))
            .collect();
        let text = format!(
            "{:#}\n",
            json!({"qemu": self.qemu, "cpu": self.cpu, "ops": self.ops, "work": work})
        );
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// The figure of that name.
    pub fn value(&self, name: &str) -> Option<u64> {
        self.ops.get(name).copied()
    }

    /// What EL2 did in the operation of that name.
    pub fn work(&self, name: &str) -> Option<Work> {
        self.work.get(name).copied()
    }

    /// All names.
    pub fn names(&self) -> impl Iterator<Item = &String> {
        self.ops.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let path = std::env::temp_dir().join(format!("xdv-baseline-{}.json", std::process::id()));
        let mut traced = Figure::new("sgi_write", 114);
        traced.work = Some(Work {
            sysreg: 9,
            barrier: 1,
            tlb: 0,
        });
        let baseline = Baseline::of(&[Figure::new("eoi", 4), traced], "10.0.2", "cortex-a57");
        baseline.write(&path).unwrap();
        assert_eq!(Baseline::read(&path).unwrap(), Some(baseline));
        fs::remove_file(&path).unwrap();
        assert_eq!(Baseline::read(&path).unwrap(), None);
    }

    #[test]
    fn a_broken_baseline_is_an_error_and_not_an_empty_one() {
        assert!(Baseline::parse("{}").is_err());
        for (ops, work) in [
            (r#"{"eoi":-4}"#, "{}"),
            ("{}", r#"{"eoi":{"sysreg":1,"tlb":1}}"#),
        ] {
            let text = format!(r#"{{"qemu":"10","cpu":"c","ops":{ops},"work":{work}}}"#);
            assert!(Baseline::parse(&text).is_err(), "{text}");
        }
    }
}
